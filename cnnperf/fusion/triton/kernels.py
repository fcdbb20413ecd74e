"""Triton kernels that sweep over maps: sums for each channel of each sample, and results of map size.

A map is N x C x H x W in fp32, bf16 or fp16, contiguous or, if `last`, channels_last; `pixels` is H W. It may have more
than 2^31 numbers, but N C must be below that. Each step of a sweep computes a tile of `block_c` channels and `block_p`
pixels of one sample in fp32. Sums are taken in `parts` parts of `chunk` pixels, which allows more programs than there
are channels and samples, and stored as parts x N x C. Sweeps that read a map for the second time go through the samples
backwards, so that they begin with the data still in L2, and mark their loads and stores as first to be evicted.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import norm_line


@triton.jit
def place_of(program, channels, parts, block_c: tl.constexpr):
    """Return sample, first channel and part of a program; parts vary fastest, then blocks of channels."""
    blocks = tl.cdiv(channels, block_c)
    row = program // parts
    return row // blocks, row % blocks * block_c, program % parts


@triton.jit
def tile_at(
    sample, channel, pixel, channels, pixels,
    last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Return the base of a tile, the offsets of its numbers from there, and the mask of those inside the map.

    Triton detects rows that are multiples of 16 numbers. With `quads`, for rows that are multiples of 4, the product
    with 4 lets it read four numbers at a time; `tl.multiple_of` has no effect on an argument.
    """
    if quads:
        if last:
            channels = channels // 4 * 4
        else:
            pixels = pixels // 4 * 4
    c = tl.arange(0, block_c)
    p = tl.arange(0, block_p)
    # Only the base can exceed 2^31; within a tile 32 bits are enough, and faster.
    if last:
        base = (sample.to(tl.int64) * pixels + pixel) * channels + channel
        offsets = c[:, None] + p[None, :] * channels
    else:
        base = (sample.to(tl.int64) * channels + channel) * pixels + pixel
        offsets = c[:, None] * pixels + p[None, :]
    inside = (channel + c < channels)[:, None] & (pixel + p < pixels)[None, :]
    return base, offsets, inside


@triton.jit
def store_sums(target, sums, sample, channel, part, batch, channels, block_c: tl.constexpr):
    """Write the sums over the pixels of a tile, one a channel, into parts x N x C."""
    c = channel + tl.arange(0, block_c)
    tl.store(target + (part * batch + sample) * channels + c, tl.sum(sums, 1), mask=c < channels)


@triton.jit
def load_channels(source, sample, channel, channels, block_c: tl.constexpr):
    """Return the numbers of a sample's channels, from N x C, as a column that broadcasts over a tile."""
    c = channel + tl.arange(0, block_c)
    return tl.load(source + sample * channels + c, mask=c < channels, other=0.0)[:, None]


@triton.jit
def sum_map(
    x, other, total, batch, channels, pixels, parts, chunk,
    multiplied: tl.constexpr, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write the sums of x or, if `multiplied`, of x times another map."""
    sample, channel, part = place_of(tl.program_id(0), channels, parts, block_c)
    sums = tl.zeros([block_c, block_p], tl.float32)
    for pixel in range(part * chunk, tl.minimum(part * chunk + chunk, pixels), block_p):
        base, offsets, inside = tile_at(sample, channel, pixel, channels, pixels, last, quads, block_c, block_p)
        value = tl.load(x + base + offsets, mask=inside, other=0.0).to(tl.float32)
        if multiplied:
            value *= tl.load(other + base + offsets, mask=inside, other=0.0).to(tl.float32)
        sums += value
    store_sums(total, sums, sample, channel, part, batch, channels, block_c)


@triton.jit
def rectify_map(
    x, shortcut, weight, bias, mean, variance, gate, out, mask, eps, channels, pixels, parts,
    masked: tl.constexpr, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write relu(BatchNorm(x) gate + shortcut), with moments C and gate N x C, and if `masked` where it is above 0."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    sample, channel, part = place_of(program, channels, parts, block_c)
    base, offsets, inside = tile_at(sample, channel, part * block_p, channels, pixels, last, quads, block_c, block_p)
    value = tl.load(x + base + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    added = tl.load(shortcut + base + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    c = channel + tl.arange(0, block_c)
    slope, shift = norm_line(weight, bias, mean, variance, eps, c, c < channels)
    factor = tl.load(gate + sample * channels + c, mask=c < channels, other=0.0)
    value = value * (slope * factor)[:, None] + (shift * factor)[:, None] + added
    if masked:
        tl.store(mask + base + offsets, (value > 0).to(tl.uint8), mask=inside, eviction_policy="evict_first")
    value = tl.where(value < 0, 0.0, value)  # a NaN stays one
    tl.store(out + base + offsets, value.to(out.dtype.element_ty), mask=inside, eviction_policy="evict_first")


@triton.jit
def scale_map(
    x, scale, offset, out, channels, pixels, parts,
    moved: tl.constexpr, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write x scale or, if `moved`, x scale + offset / (H W), with scale and offset N x C."""
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    sample, channel, part = place_of(program, channels, parts, block_c)
    base, offsets, inside = tile_at(sample, channel, part * block_p, channels, pixels, last, quads, block_c, block_p)
    value = tl.load(x + base + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    value *= load_channels(scale, sample, channel, channels, block_c)
    if moved:
        value += load_channels(offset, sample, channel, channels, block_c) / pixels
    tl.store(out + base + offsets, value.to(out.dtype.element_ty), mask=inside, eviction_policy="evict_first")


@triton.jit
def blend_maps(
    passed, x, weight, variance, gate, dsqueezed, of_x, constant, out, eps, channels, pixels, parts,
    last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write dx = passed slope gate + x of_x + slope dsqueezed / (H W) + constant.

    Gate and dsqueezed are N x C, of_x and constant C, and slope is that of BatchNorm.
    """
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    sample, channel, part = place_of(program, channels, parts, block_c)
    base, offsets, inside = tile_at(sample, channel, part * block_p, channels, pixels, last, quads, block_c, block_p)
    value = tl.load(passed + base + offsets, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + base + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    c = channel + tl.arange(0, block_c)
    spread = tl.load(variance + c, mask=c < channels, other=1.0)
    slope = tl.load(weight + c, mask=c < channels, other=0.0).to(tl.float32) * tl.rsqrt(spread + eps)
    through = tl.load(dsqueezed + sample * channels + c, mask=c < channels, other=0.0)
    fixed = slope * through / pixels + tl.load(constant + c, mask=c < channels, other=0.0)
    value = value * slope[:, None] * load_channels(gate, sample, channel, channels, block_c)
    value += second * load_channels(of_x, 0, channel, channels, block_c) + fixed[:, None]
    tl.store(out + base + offsets, value.to(out.dtype.element_ty), mask=inside, eviction_policy="evict_first")
