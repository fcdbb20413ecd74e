"""Triton kernels of a tail's backward in training: sums of the gradient, and gradients of the excitation.

Partial sums are parts x N x C; all small tensors are computed in fp32. The last program to finish the sums of a sample
continues with the sample's excitation, which saves a launch.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import channels_of, sum_parts, through_gate, write_excitation_backward
from cnnperf.fusion.triton.kernels import load_channels, place_of, store_sums, tile_at
from cnnperf.fusion.triton.statistics import arrives_last


@triton.jit
def write_gate_gradients(
    sample, begin, end, first, second, mean, mu, variance, gate, weight, bias, plain, moved, dexcited,
    eps, batch, channels, parts,
    row_c: tl.constexpr, row_parts: tl.constexpr,
):  # fmt: skip
    """Compute S1 and S2, N x C, in `plain` and `moved`, and the gradient of the gate's input, for some channels."""
    row = sample * channels
    for start in range(begin, end, row_c):
        c = start + tl.arange(0, row_c)
        inside = c < channels
        s1 = sum_parts(first, row, c, channels, parts, batch * channels, row_parts, row_c)
        away = tl.load(mean + row + c, mask=inside, other=0.0) - tl.load(mu + c, mask=inside, other=0.0)
        s2 = sum_parts(second, row, c, channels, parts, batch * channels, row_parts, row_c) + away * s1
        inverse = tl.rsqrt(tl.load(variance + c, mask=inside, other=1.0) + eps)
        slope = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32) * inverse
        value = slope * s2 + tl.load(bias + c, mask=inside, other=0.0).to(tl.float32) * s1
        value = through_gate(value, tl.load(gate + row + c, mask=inside, other=0.0), False)
        tl.store(plain + row + c, s1, mask=inside)
        tl.store(moved + row + c, s2, mask=inside)
        tl.store(dexcited + row + c, value, mask=inside)


@triton.jit
def find_gate_gradients(
    first, second, mean, mu, variance, gate, weight, bias, plain, moved, dexcited, eps, batch, channels, parts,
    row_c: tl.constexpr, row_parts: tl.constexpr,
):  # fmt: skip
    """Run `write_gate_gradients` with one program for each block of a sample's channels."""
    sample, begin, end = channels_of(channels, False, row_c)
    write_gate_gradients(
        sample, begin, end, first, second, mean, mu, variance, gate, weight, bias, plain, moved, dexcited, eps, batch,
        channels, parts, row_c, row_parts,
    )  # fmt: skip


@triton.jit
def pass_gradient(
    grad, mask, x, passed, first, second, counters, mean, mu, variance, hidden, gate, weight, bias, reduce, expand,
    plain, moved, dexcited, dhidden, dsqueezed,
    eps, batch, channels, width, pixels, parts, chunk,
    ending: tl.constexpr, row_c: tl.constexpr, row_h: tl.constexpr, row_parts: tl.constexpr, last: tl.constexpr,
    quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Write grad where the mask is set, its sums, and its sums times the deviations of x from the sample's own mean.

    If `ending`, the last program of a sample continues with the gradients of its excitation.
    """
    sample, channel, part = place_of(tl.program_id(0), channels, parts, block_c)
    own = load_channels(mean, sample, channel, channels, block_c)
    sums = tl.zeros([block_c, block_p], tl.float32)
    products = tl.zeros([block_c, block_p], tl.float32)
    for pixel in range(part * chunk, tl.minimum(part * chunk + chunk, pixels), block_p):
        base, offsets, inside = tile_at(sample, channel, pixel, channels, pixels, last, quads, block_c, block_p)
        value = tl.load(grad + base + offsets, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        positive = tl.load(mask + base + offsets, mask=inside, other=0, eviction_policy="evict_first")
        value = tl.where(positive != 0, value, 0.0)
        tl.store(passed + base + offsets, value.to(passed.dtype.element_ty), mask=inside)
        sums += value
        products += value * (tl.load(x + base + offsets, mask=inside, other=0.0).to(tl.float32) - own)
    store_sums(first, sums, sample, channel, part, batch, channels, block_c)
    store_sums(second, products, sample, channel, part, batch, channels, block_c)
    if ending:  # noqa: SIM102 - Triton would evaluate both sides of an `and`
        if arrives_last(counters + sample, tl.cdiv(channels, block_c) * parts):
            write_gate_gradients(
                sample, 0, channels, first, second, mean, mu, variance, gate, weight, bias, plain, moved, dexcited,
                eps, batch, channels, parts, row_c, row_parts,
            )  # fmt: skip
            write_excitation_backward(
                dexcited + sample * channels, dhidden + sample * width, dsqueezed + sample * channels,
                hidden + sample * width, hidden, reduce, expand, channels, width, False, row_c, row_h,
            )  # fmt: skip
