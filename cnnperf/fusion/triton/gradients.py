"""Triton kernels of a tail's backward in training: sums of the gradient, excitation, and coefficients of dx.

Partial sums are parts x N x C, as the sweeps leave them; everything small is computed in fp32. The last program of a
sample that is done with its sums goes on with the sample's excitation, so that no launch of its own is needed.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import channels_of, load_rows, sum_parts, through_gate, write_excitation_backward
from cnnperf.fusion.triton.kernels import load_channels, place_of, store_sums, tile_at
from cnnperf.fusion.triton.statistics import arrives_last


@triton.jit
def write_gate_gradients(
    sample,
    begin,
    end,
    first,
    second,
    mean,
    mu,
    variance,
    gate,
    weight,
    bias,
    plain,
    moved,
    dexcited,
    eps,
    batch,
    channels,
    parts,
    row_c: tl.constexpr,
    row_parts: tl.constexpr,
):
    """Write S1 and S2, N x C, in `plain` and `moved`, and the gradient of what goes into the gate, of some channels."""
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
    first,
    second,
    mean,
    mu,
    variance,
    gate,
    weight,
    bias,
    plain,
    moved,
    dexcited,
    eps,
    batch,
    channels,
    parts,
    row_c: tl.constexpr,
    row_parts: tl.constexpr,
):
    """Do what `write_gate_gradients` does, one program a block of a sample's channels."""
    sample, begin, end = channels_of(channels, False, row_c)
    write_gate_gradients(
        sample,
        begin,
        end,
        first,
        second,
        mean,
        mu,
        variance,
        gate,
        weight,
        bias,
        plain,
        moved,
        dexcited,
        eps,
        batch,
        channels,
        parts,
        row_c,
        row_parts,
    )


@triton.jit
def pass_gradient(
    grad,
    mask,
    x,
    passed,
    first,
    second,
    counters,
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
    pixels,
    parts,
    chunk,
    ending: tl.constexpr,
    row_c: tl.constexpr,
    row_h: tl.constexpr,
    row_parts: tl.constexpr,
    last: tl.constexpr,
    quads: tl.constexpr,
    block_c: tl.constexpr,
    block_p: tl.constexpr,
):
    """Write grad where the mask is set, and its sums, plain and times deviations from the sample's own mean.

    Where `ending`, the last program of a sample goes on with the gradients of its excitation.
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
                sample,
                0,
                channels,
                first,
                second,
                mean,
                mu,
                variance,
                gate,
                weight,
                bias,
                plain,
                moved,
                dexcited,
                eps,
                batch,
                channels,
                parts,
                row_c,
                row_parts,
            )
            write_excitation_backward(
                dexcited + sample * channels,
                dhidden + sample * width,
                dsqueezed + sample * channels,
                hidden + sample * width,
                hidden,
                reduce,
                expand,
                channels,
                width,
                False,
                row_c,
                row_h,
            )


@triton.jit
def write_product(
    target,
    left,
    right,
    row,
    column,
    batch,
    rows,
    columns,
    block_n: tl.constexpr,
    block_r: tl.constexpr,
    block_k: tl.constexpr,
):
    """Write left^T right, for left N x `rows` and right N x `columns`; in fp32 and not in TF32.

    The samples are added up at the end: a step of the loop waits for its loads and for nothing else.
    """
    total = tl.zeros([block_n, block_r, block_k], tl.float32)
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        factors = load_rows(left, n, row, batch, rows)
        total += factors[:, :, None] * load_rows(right, n, column, batch, columns)[:, None, :]
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    places = row[:, None] * columns + column[None, :]
    tl.store(target + places, tl.sum(total, 0).to(target.dtype.element_ty), mask=inside)


@triton.jit
def write_column_sums(target, source, column, batch, columns, block_n: tl.constexpr, block_k: tl.constexpr):
    """Write the sums over N of N x `columns`."""
    total = tl.zeros([block_n, block_k], tl.float32)
    for start in range(0, batch, block_n):
        total += load_rows(source, start + tl.arange(0, block_n), column, batch, columns)
    tl.store(target + column, tl.sum(total, 0).to(target.dtype.element_ty), mask=column < columns)


@triton.jit
def write_norm_gradients(
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
    of_x,
    constant,
    c,
    eps,
    batch,
    channels,
    pixels,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
):
    """Write the gradients of BatchNorm's weight and bias for the channels `c`, and what dx takes from them."""
    of_channels = c < channels
    centre = tl.load(mu + c, mask=of_channels, other=0.0)
    inverse = tl.rsqrt(tl.load(variance + c, mask=of_channels, other=1.0) + eps)
    slope = tl.load(weight + c, mask=of_channels, other=0.0).to(tl.float32) * inverse
    of_bias = tl.zeros([block_n, block_c], tl.float32)
    of_weight = tl.zeros([block_n, block_c], tl.float32)
    for start in range(0, batch, block_n):
        n = start + tl.arange(0, block_n)
        factor = load_rows(gate, n, c, batch, channels)
        through = load_rows(dsqueezed, n, c, batch, channels)
        of_bias += factor * load_rows(plain, n, c, batch, channels) + through
        away = load_rows(mean, n, c, batch, channels) - centre[None, :]
        of_weight += factor * load_rows(moved, n, c, batch, channels) + through * away
    biases = tl.sum(of_bias, 0)
    weights = tl.sum(of_weight, 0) * inverse
    tl.store(dbias + c, biases.to(dbias.dtype.element_ty), mask=of_channels)
    tl.store(dweight + c, weights.to(dweight.dtype.element_ty), mask=of_channels)
    count = 1.0 * batch * pixels  # beyond 2^31, perhaps
    times_x = -slope * inverse * weights / count
    tl.store(of_x + c, times_x, mask=of_channels)
    tl.store(constant + c, -slope * biases / count - times_x * centre, mask=of_channels)


@triton.jit
def find_coefficients(
    plain,
    moved,
    dexcited,
    dhidden,
    dsqueezed,
    mean,
    mu,
    variance,
    squeezed,
    hidden,
    gate,
    weight,
    dweight,
    dbias,
    dreduce,
    dexpand,
    dreduce_bias,
    dexpand_bias,
    of_x,
    constant,
    eps,
    batch,
    channels,
    width,
    pixels,
    block_n: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write all gradients of parameters, and `of_x` and `constant`, C, for `blend_maps`.

    The first programs have blocks of `dreduce`, as many others blocks of `dexpand`, and the last blocks of channels.
    """
    blocks_h = tl.cdiv(width, block_h)
    products = tl.cdiv(channels, block_c) * blocks_h
    program = tl.program_id(0)
    if program < 2 * products:
        block = program % products
        c = block // blocks_h * block_c + tl.arange(0, block_c)
        h = block % blocks_h * block_h + tl.arange(0, block_h)
        if program < products:
            write_product(dreduce, dhidden, squeezed, h, c, batch, width, channels, block_n, block_h, block_c)
            if block < blocks_h:
                write_column_sums(dreduce_bias, dhidden, h, batch, width, block_n, block_h)
        else:
            write_product(dexpand, dexcited, hidden, c, h, batch, channels, width, block_n, block_c, block_h)
            if block % blocks_h == 0:
                write_column_sums(dexpand_bias, dexcited, c, batch, channels, block_n, block_c)
    else:
        write_norm_gradients(
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
            of_x,
            constant,
            (program - 2 * products) * block_c + tl.arange(0, block_c),
            eps,
            batch,
            channels,
            pixels,
            block_n,
            block_c,
        )
