"""Triton functions for the excitation and its backward, called by kernels with one program a sample.

Vectors of a sample are rows of N x C or N x C/r in fp32; `width` is C/r. Each step of a program reads the results of
the step before from memory, which allows any number of channels. After a barrier that is safe within a program, and
hits L1. Weights and biases may be in fp32, bf16 or fp16; the arithmetic is in fp32.
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
    """Return the rows `row` of matrix times vector, in fp32, not TF32; the strides may transpose the matrix."""
    total = tl.zeros([block_r, block_k], tl.float32)
    for start in range(0, columns, block_k):
        column = start + tl.arange(0, block_k)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        places = row[:, None] * row_stride + column[None, :] * column_stride
        factors = tl.load(vector + column, mask=column < columns, other=0.0)
        total += tl.load(matrix + places, mask=inside, other=0.0).to(tl.float32) * factors[None, :]
    return tl.sum(total, 1)


@triton.jit
def load_rows(source, n, column, batch, columns):
    """Return a tile of N x `columns` in fp32, with 0 outside."""
    inside = (n < batch)[:, None] & (column < columns)[None, :]
    return tl.load(source + n[:, None] * columns + column[None, :], mask=inside, other=0.0)


@triton.jit
def activated(value, silu: tl.constexpr):
    """Return ReLU or SiLU of a value, and the derivative of SiLU at the value."""
    if silu:
        logistic = tl.sigmoid(value)
        slope = logistic * (1 + value * (1 - logistic))
        value *= logistic
    else:
        slope = value
        value = tl.where(value < 0, 0.0, value)  # a NaN stays one
    return value, slope


@triton.jit
def gated(value, hard: tl.constexpr):
    """Return the sigmoid or the hard sigmoid of a value."""
    if hard:
        value = value / 6 + 0.5
        value = tl.where(value < 0, 0.0, tl.where(value > 1, 1.0, value))
    else:
        value = tl.sigmoid(value)
    return value


@triton.jit
def write_hidden(
    squeezed, hidden, slopes, reduce, bias, channels, width,
    biased: tl.constexpr, silu: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Compute a sample's hidden values from its squeezed means, and with SiLU the derivatives in `slopes`."""
    for start in range(0, width, block_h):
        row = start + tl.arange(0, block_h)
        value = product_of(reduce, squeezed, row, width, channels, channels, 1, block_h, block_c)
        if biased:
            value += tl.load(bias + row, mask=row < width, other=0.0).to(tl.float32)
        value, slope = activated(value, silu)
        if silu:
            tl.store(slopes + row, slope, mask=row < width)
        tl.store(hidden + row, value, mask=row < width)


@triton.jit
def gate_of(
    hidden, row, expand, bias, channels, width,
    biased: tl.constexpr, hard: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Return a sample's gate for the channels `row`, computed from its hidden values."""
    value = product_of(expand, hidden, row, channels, width, width, 1, block_c, block_h)
    if biased:
        value += tl.load(bias + row, mask=row < channels, other=0.0).to(tl.float32)
    return gated(value, hard)


@triton.jit
def write_gate(
    squeezed, hidden, slopes, gate, reduce, expand, reduce_bias, expand_bias, channels, width,
    reduce_biased: tl.constexpr, expand_biased: tl.constexpr, silu: tl.constexpr, hard: tl.constexpr,
    block_c: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Compute a sample's hidden values and gate from squeezed means that this program has written."""
    tl.debug_barrier()
    write_hidden(squeezed, hidden, slopes, reduce, reduce_bias, channels, width, reduce_biased, silu, block_c, block_h)
    tl.debug_barrier()
    for start in range(0, channels, block_c):
        row = start + tl.arange(0, block_c)
        value = gate_of(hidden, row, expand, expand_bias, channels, width, expand_biased, hard, block_c, block_h)
        tl.store(gate + row, value, mask=row < channels)


@triton.jit
def write_excitation_backward(
    dexcited, dhidden, dsqueezed, hidden, slopes, reduce, expand, channels, width,
    silu: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Compute a sample's gradients of the activation's input and of the squeezed means from `dexcited`."""
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
    """Return the gradient of the gate's input from that of the gate."""
    return tl.where((gate > 0) & (gate < 1), gradient / 6, 0.0) if hard else gradient * gate * (1 - gate)


@triton.jit
def write_scaling(gate, scale, offset, channels, block_c: tl.constexpr):
    """Multiply scale and offset of a sample by its gate, all written by this program."""
    tl.debug_barrier()
    for start in range(0, channels, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        factor = tl.load(gate + c, mask=inside, other=0.0)
        tl.store(scale + c, tl.load(scale + c, mask=inside, other=0.0) * factor, mask=inside)
        tl.store(offset + c, tl.load(offset + c, mask=inside, other=0.0) * factor, mask=inside)


@triton.jit
def channels_of(channels, whole: tl.constexpr, block_c: tl.constexpr):
    """Return sample, first and last channel of a program: all channels of a sample if `whole`, otherwise one block."""
    if whole:
        sample = tl.program_id(0)
        begin = 0
        end = channels
    else:
        blocks = tl.cdiv(channels, block_c)
        sample = tl.program_id(0) // blocks
        begin = tl.program_id(0) % blocks * block_c
        end = tl.minimum(begin + block_c, channels)
    return sample, begin, end


@triton.jit
def norm_line(weight, bias, mean, variance, eps, c, inside):
    """Return slope and offset of BatchNorm, with the given moments, for the channels `c`."""
    spread = tl.load(variance + c, mask=inside, other=1.0).to(tl.float32)
    slope = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32) * tl.rsqrt(spread + eps)
    centre = tl.load(mean + c, mask=inside, other=0.0).to(tl.float32)
    return slope, tl.load(bias + c, mask=inside, other=0.0).to(tl.float32) - centre * slope


@triton.jit
def sum_parts(partial, row, c, channels, parts, size, block_parts: tl.constexpr, block_c: tl.constexpr):
    """Return the sums over the first dimension of parts x N x C for the channels `c` of the sample at `row`.

    The loads bypass L1, which is not coherent with writes of other programs of the same launch; `size` is N C.
    """
    total = tl.zeros([block_parts, block_c], tl.float32)
    for start in range(0, parts, block_parts):
        part = start + tl.arange(0, block_parts)
        inside = (part < parts)[:, None] & (c < channels)[None, :]
        places = part[:, None] * size + (row + c)[None, :]
        total += tl.load(partial + places, mask=inside, other=0.0, cache_modifier=".cg")
    return tl.sum(total, 0)
