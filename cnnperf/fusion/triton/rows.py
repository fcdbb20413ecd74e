"""Triton kernels of an excitation with many channels, whose products are divided among programs by rows.

With one program a sample, each program would read all weights. Here a program reads its rows once for up to 16 samples.
Vectors are N x C or N x C/r in fp32; `width` is C/r.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import activated, gated, load_rows


@triton.jit
def block_at(batch, rows, block_n: tl.constexpr, block_r: tl.constexpr):
    """Return the samples and rows of this program, and the mask of those that exist; blocks of rows vary fastest."""
    blocks = tl.cdiv(rows, block_r)
    n = tl.program_id(0) // blocks * block_n + tl.arange(0, block_n)
    row = tl.program_id(0) % blocks * block_r + tl.arange(0, block_r)
    return n, row, (n < batch)[:, None] & (row < rows)[None, :]


@triton.jit
def multiply_rows(
    vectors, matrix, n, row, batch, rows, columns, row_stride, column_stride,
    block_n: tl.constexpr, block_r: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Return the rows `row` of matrix times the vectors `n`, in fp32, not TF32; strides may transpose the matrix."""
    total = tl.zeros([block_n, block_r, block_k], tl.float32)
    for start in range(0, columns, block_k):
        column = start + tl.arange(0, block_k)
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        places = row[:, None] * row_stride + column[None, :] * column_stride
        weights = tl.load(matrix + places, mask=inside, other=0.0).to(tl.float32)
        total += load_rows(vectors, n, column, batch, columns)[:, None, :] * weights[None, :, :]
    return tl.sum(total, 2)


@triton.jit
def find_hidden(
    squeezed, hidden, slopes, reduce, reduce_bias, batch, channels, width,
    reduce_biased: tl.constexpr, silu: tl.constexpr, block_n: tl.constexpr, block_r: tl.constexpr,
    block_k: tl.constexpr,
):  # fmt: skip
    """Compute hidden values from squeezed means, and with SiLU the derivatives in `slopes`."""
    n, row, inside = block_at(batch, width, block_n, block_r)
    value = multiply_rows(
        squeezed, reduce, n, row, batch, width, channels, channels, 1, block_n, block_r, block_k
    )  # fmt: skip
    if reduce_biased:
        value += tl.load(reduce_bias + row, mask=row < width, other=0.0).to(tl.float32)[None, :]
    places = n[:, None] * width + row[None, :]
    value, slope = activated(value, silu)
    if silu:
        tl.store(slopes + places, slope, mask=inside)
    tl.store(hidden + places, value, mask=inside)


@triton.jit
def find_gate(
    hidden, gate, scale, offset, expand, expand_bias, batch, channels, width,
    expand_biased: tl.constexpr, hard: tl.constexpr, scaled: tl.constexpr, block_n: tl.constexpr, block_r: tl.constexpr,
    block_k: tl.constexpr,
):  # fmt: skip
    """Compute the gate from hidden values; if `scaled`, multiply scale and offset, N x C, by it."""
    n, row, inside = block_at(batch, channels, block_n, block_r)
    value = multiply_rows(hidden, expand, n, row, batch, channels, width, width, 1, block_n, block_r, block_k)
    if expand_biased:
        value += tl.load(expand_bias + row, mask=row < channels, other=0.0).to(tl.float32)[None, :]
    value = gated(value, hard)
    places = n[:, None] * channels + row[None, :]
    tl.store(gate + places, value, mask=inside)
    if scaled:
        tl.store(scale + places, tl.load(scale + places, mask=inside, other=0.0) * value, mask=inside)
        tl.store(offset + places, tl.load(offset + places, mask=inside, other=0.0) * value, mask=inside)


@triton.jit
def find_hidden_gradients(
    dexcited, dhidden, hidden, slopes, expand, batch, channels, width,
    silu: tl.constexpr, block_n: tl.constexpr, block_r: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the activation's input from those of the gate's input."""
    n, row, inside = block_at(batch, width, block_n, block_r)
    value = multiply_rows(
        dexcited, expand, n, row, batch, width, channels, 1, width, block_n, block_r, block_k
    )  # fmt: skip
    places = n[:, None] * width + row[None, :]
    if silu:
        value *= tl.load(slopes + places, mask=inside, other=0.0)
    else:
        value = tl.where(tl.load(hidden + places, mask=inside, other=0.0) > 0, value, 0.0)
    tl.store(dhidden + places, value, mask=inside)


@triton.jit
def find_squeezed_gradients(
    dhidden, dsqueezed, reduce, batch, channels, width,
    block_n: tl.constexpr, block_r: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the squeezed means from those of the activation's input."""
    n, row, inside = block_at(batch, channels, block_n, block_r)
    value = multiply_rows(
        dhidden, reduce, n, row, batch, channels, width, 1, channels, block_n, block_r, block_k
    )  # fmt: skip
    tl.store(dsqueezed + n[:, None] * channels + row[None, :], value, mask=inside)
