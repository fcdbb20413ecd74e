"""Triton functions for the excitation and its backward, which kernels call with one program a sample.

Vectors of a sample are rows of N x C or N x C/r in fp32; `width` is C/r. What one step of a program wrote, the next one
reads from memory, which after a barrier is safe within a program and comes from L1; so any number of channels will do.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl


@triton.jit
def product_of(
    matrix, vector, row, rows, columns, row_stride, column_stride, block_r: tl.constexpr, block_k: tl.constexpr
):
    """Return the rows `row` of matrix times vector, in fp32 and not in TF32; the strides may transpose the matrix."""
    total = tl.zeros([block_r, block_k], tl.float32)
    for start in range(0, columns, block_k):
        column = start + tl.arange(0, block_k)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        places = row[:, None] * row_stride + column[None, :] * column_stride
        factors = tl.load(vector + column, mask=column < columns, other=0.0)
        total += tl.load(matrix + places, mask=inside, other=0.0) * factors[None, :]
    return tl.sum(total, 1)


@triton.jit
def write_hidden(
    squeezed,
    hidden,
    slopes,
    reduce,
    bias,
    channels,
    width,
    biased: tl.constexpr,
    silu: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write a sample's hidden values from its squeezed means, and for SiLU the derivative there."""
    for start in range(0, width, block_h):
        row = start + tl.arange(0, block_h)
        value = product_of(reduce, squeezed, row, width, channels, channels, 1, block_h, block_c)
        if biased:
            value += tl.load(bias + row, mask=row < width, other=0.0)
        if silu:
            logistic = tl.sigmoid(value)
            tl.store(slopes + row, logistic * (1 + value * (1 - logistic)), mask=row < width)
            value *= logistic
        else:
            value = tl.where(value < 0, 0.0, value)
        tl.store(hidden + row, value, mask=row < width)


@triton.jit
def gate_of(
    hidden,
    row,
    expand,
    bias,
    channels,
    width,
    biased: tl.constexpr,
    hard: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Return a sample's gate for the channels `row` from its hidden values."""
    value = product_of(expand, hidden, row, channels, width, width, 1, block_c, block_h)
    if biased:
        value += tl.load(bias + row, mask=row < channels, other=0.0)
    if hard:
        value = value / 6 + 0.5
        value = tl.where(value < 0, 0.0, tl.where(value > 1, 1.0, value))
    else:
        value = tl.sigmoid(value)
    return value


@triton.jit
def write_gate(
    squeezed,
    hidden,
    slopes,
    gate,
    reduce,
    expand,
    reduce_bias,
    expand_bias,
    channels,
    width,
    reduce_biased: tl.constexpr,
    expand_biased: tl.constexpr,
    silu: tl.constexpr,
    hard: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write a sample's hidden values and gate from squeezed means that this program wrote."""
    tl.debug_barrier()
    write_hidden(squeezed, hidden, slopes, reduce, reduce_bias, channels, width, reduce_biased, silu, block_c, block_h)
    tl.debug_barrier()
    for start in range(0, channels, block_c):
        row = start + tl.arange(0, block_c)
        value = gate_of(hidden, row, expand, expand_bias, channels, width, expand_biased, hard, block_c, block_h)
        tl.store(gate + row, value, mask=row < channels)


@triton.jit
def write_excitation_backward(
    dexcited,
    dhidden,
    dsqueezed,
    hidden,
    slopes,
    reduce,
    expand,
    channels,
    width,
    silu: tl.constexpr,
    block_c: tl.constexpr,
    block_h: tl.constexpr,
):
    """Write a sample's gradients of what goes into the activation and of the squeezed means from `dexcited`."""
    tl.debug_barrier()
    for start in range(0, width, block_h):
        row = start + tl.arange(0, block_h)
        value = product_of(expand, dexcited, row, width, channels, 1, width, block_h, block_c)
        if silu:
            value *= tl.load(slopes + row, mask=row < width, other=0.0)
        else:
            value = tl.where(tl.load(hidden + row, mask=row < width, other=0.0) > 0, value, 0.0)
        tl.store(dhidden + row, value, mask=row < width)
    tl.debug_barrier()
    for start in range(0, channels, block_c):
        row = start + tl.arange(0, block_c)
        value = product_of(reduce, dhidden, row, channels, width, 1, channels, block_c, block_h)
        tl.store(dsqueezed + row, value, mask=row < channels)


@triton.jit
def through_gate(gradient, gate, hard: tl.constexpr):
    """Return the gradient of what goes into the gate."""
    return tl.where((gate > 0) & (gate < 1), gradient / 6, 0.0) if hard else gradient * gate * (1 - gate)


@triton.jit
def write_scaling(gate, scale, offset, channels, block_c: tl.constexpr):
    """Multiply scale and offset of a sample by its gate; this program wrote all three."""
    tl.debug_barrier()
    for start in range(0, channels, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        factor = tl.load(gate + c, mask=inside, other=0.0)
        tl.store(scale + c, tl.load(scale + c, mask=inside, other=0.0) * factor, mask=inside)
        tl.store(offset + c, tl.load(offset + c, mask=inside, other=0.0) * factor, mask=inside)


@triton.jit
def frozen_norm(weight, bias, mean, variance, eps, c, inside):
    """Return slope and offset of BatchNorm in inference for the channels `c`."""
    slope = tl.load(weight + c, mask=inside, other=0.0) * tl.rsqrt(tl.load(variance + c, mask=inside, other=1.0) + eps)
    return slope, tl.load(bias + c, mask=inside, other=0.0) - tl.load(mean + c, mask=inside, other=0.0) * slope


@triton.jit
def sum_parts(partial, places, inside, parts, size):
    """Return the sums of parts x N x C at places of N x C; `size` is N C."""
    total = tl.load(partial + places, mask=inside, other=0.0)
    for part in range(1, parts):
        total += tl.load(partial + part * size + places, mask=inside, other=0.0)
    return total
