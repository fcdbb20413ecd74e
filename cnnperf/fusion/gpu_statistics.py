"""Triton kernels between the sweeps of a tail in training: statistics of the batch, excitation, coefficients of dx.

Partial sums are parts x N x C, as the sweeps leave them; everything is in fp32.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.gpu_excitation import sum_parts, through_gate, write_excitation_backward, write_gate, write_scaling


@triton.jit
def batch_moments(
    origin, first, second, c, batch, channels, pixels, parts, block_n: tl.constexpr, block_c: tl.constexpr
):
    """Return mean and biased variance over the batch of the channels `c`, by the law of total variance."""
    sums = tl.zeros([block_n, block_c], tl.float32)
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        inside = (n < batch)[:, None] & (c < channels)[None, :]
        places = n[:, None] * channels + c[None, :]
        shifted = sum_parts(first, places, inside, parts, batch * channels) / pixels
        sums += tl.load(origin + places, mask=inside, other=0.0) + shifted
    mu = tl.sum(sums, 0) / batch
    squares = tl.zeros([block_n, block_c], tl.float32)
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        inside = (n < batch)[:, None] & (c < channels)[None, :]
        places = n[:, None] * channels + c[None, :]
        shifted = sum_parts(first, places, inside, parts, batch * channels) / pixels
        within = sum_parts(second, places, inside, parts, batch * channels) / pixels - shifted * shifted
        between = tl.load(origin + places, mask=inside, other=0.0) + shifted - mu[None, :]
        squares += tl.where(inside, tl.where(within < 0, 0.0, within) + between * between, 0.0)
    return mu, tl.sum(squares, 0) / batch


@triton.jit
def find_batch_moments(
    origin,
    first,
    second,
    mu,
    variance,
    batch,
    channels,
    pixels,
    parts,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
):
    """Write mean and variance over the batch, C each, one program a block of channels."""
    c = tl.program_id(0) * block_c + tl.arange(0, block_c)
    centre, spread = batch_moments(origin, first, second, c, batch, channels, pixels, parts, block_n, block_c)
    tl.store(mu + c, centre, mask=c < channels)
    tl.store(variance + c, spread, mask=c < channels)


@triton.jit
def excite_normalized(
    origin,
    first,
    second,
    mean,
    mu,
    variance,
    squeezed,
    hidden,
    gate,
    scale,
    offset,
    weight,
    bias,
    reduce,
    expand,
    eps,
    batch,
    channels,
    width,
    pixels,
    parts,
    known: tl.constexpr,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write what `algebra.Forward` keeps of a sample, and scale and offset of its map, N x C.

    Where the batch's moments are not `known` each program finds them for itself, and the first one writes them.
    """
    sample = tl.program_id(0)
    row = sample * channels
    for start in range(0, channels, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        if known:
            centre = tl.load(mu + c, mask=inside, other=0.0)
            spread = tl.load(variance + c, mask=inside, other=0.0)
        else:
            centre, spread = batch_moments(origin, first, second, c, batch, channels, pixels, parts, block_n, block_c)
            tl.store(mu + c, centre, mask=inside & (sample == 0))
            tl.store(variance + c, spread, mask=inside & (sample == 0))
        shifted = sum_parts(first, row + c, inside, parts, batch * channels) / pixels
        own = tl.load(origin + row + c, mask=inside, other=0.0) + shifted
        slope = tl.load(weight + c, mask=inside, other=0.0) * tl.rsqrt(spread + eps)
        shift = tl.load(bias + c, mask=inside, other=0.0)
        tl.store(mean + row + c, own, mask=inside)
        tl.store(squeezed + row + c, (own - centre) * slope + shift, mask=inside)
        tl.store(scale + row + c, slope, mask=inside)
        tl.store(offset + row + c, shift - centre * slope, mask=inside)
    hidden += sample * width
    write_gate(
        squeezed + row,
        hidden,
        hidden,
        gate + row,
        reduce,
        expand,
        reduce,
        expand,
        channels,
        width,
        False,
        False,
        False,
        False,
        block_c,
        block_h,
    )
    write_scaling(gate + row, scale + row, offset + row, channels, block_c)


@triton.jit
def excite_normalized_backward(
    first,
    second,
    mean,
    mu,
    variance,
    hidden,
    gate,
    weight,
    bias,
    reduce,
    expand,
    plain,
    moved,
    dexcited,
    dhidden,
    dsqueezed,
    eps,
    batch,
    channels,
    width,
    parts,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write a sample's S1 and S2, N x C, in `plain` and `moved`, and the gradients of gate, activation and squeeze."""
    sample = tl.program_id(0)
    row = sample * channels
    for start in range(0, channels, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        s1 = sum_parts(first, row + c, inside, parts, batch * channels)
        away = tl.load(mean + row + c, mask=inside, other=0.0) - tl.load(mu + c, mask=inside, other=0.0)
        s2 = sum_parts(second, row + c, inside, parts, batch * channels) + away * s1
        inverse = tl.rsqrt(tl.load(variance + c, mask=inside, other=1.0) + eps)
        slope = tl.load(weight + c, mask=inside, other=0.0) * inverse
        value = slope * s2 + tl.load(bias + c, mask=inside, other=0.0) * s1
        value = through_gate(value, tl.load(gate + row + c, mask=inside, other=0.0), False)
        tl.store(plain + row + c, s1, mask=inside)
        tl.store(moved + row + c, s2, mask=inside)
        tl.store(dexcited + row + c, value, mask=inside)
    hidden += sample * width
    write_excitation_backward(
        dexcited + row,
        dhidden + sample * width,
        dsqueezed + row,
        hidden,
        hidden,
        reduce,
        expand,
        channels,
        width,
        False,
        block_c,
        block_h,
    )


@triton.jit
def find_coefficients(
    plain,
    moved,
    dsqueezed,
    mean,
    mu,
    variance,
    gate,
    weight,
    dweight,
    dbias,
    of_passed,
    of_x,
    constant,
    eps,
    batch,
    channels,
    pixels,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
):
    """Write the gradients of weight and bias, C, and factors for `blend_maps`, one program a block of channels."""
    c = tl.program_id(0) * block_c + tl.arange(0, block_c)
    of_channels = c < channels
    centre = tl.load(mu + c, mask=of_channels, other=0.0)
    inverse = tl.rsqrt(tl.load(variance + c, mask=of_channels, other=1.0) + eps)
    slope = tl.load(weight + c, mask=of_channels, other=0.0) * inverse
    of_bias = tl.zeros([block_n, block_c], tl.float32)
    of_weight = tl.zeros([block_n, block_c], tl.float32)
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        inside = (n < batch)[:, None] & of_channels[None, :]
        places = n[:, None] * channels + c[None, :]
        factor = tl.load(gate + places, mask=inside, other=0.0)
        through = tl.load(dsqueezed + places, mask=inside, other=0.0)
        of_bias += factor * tl.load(plain + places, mask=inside, other=0.0) + through
        away = tl.load(mean + places, mask=inside, other=0.0) - centre[None, :]
        of_weight += factor * tl.load(moved + places, mask=inside, other=0.0) + through * away
    biases = tl.sum(of_bias, 0)
    weights = tl.sum(of_weight, 0) * inverse
    tl.store(dbias + c, biases, mask=of_channels)
    tl.store(dweight + c, weights, mask=of_channels)
    count = 1.0 * batch * pixels  # beyond 2^31, perhaps
    times_x = -slope * inverse * weights / count
    tl.store(of_x + c, times_x, mask=of_channels)
    fixed = -slope * biases / count - times_x * centre
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        inside = (n < batch)[:, None] & of_channels[None, :]
        places = n[:, None] * channels + c[None, :]
        factor = tl.load(gate + places, mask=inside, other=0.0)
        through = tl.load(dsqueezed + places, mask=inside, other=0.0)
        tl.store(of_passed + places, slope[None, :] * factor, mask=inside)
        tl.store(constant + places, slope[None, :] * through / pixels + fixed[None, :], mask=inside)
