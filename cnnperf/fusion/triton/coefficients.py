"""Triton kernel of a tail's backward in training for the gradients of parameters and the coefficients of dx.

All sums over the batch are taken in fp32.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import load_rows


@triton.jit
def write_product(
    target, left, right, row, column, batch, rows, columns,
    block_n: tl.constexpr, block_r: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute left^T right, for left N x `rows` and right N x `columns`, in fp32, not TF32.

    The samples are added up at the end, so that a step of the loop waits only for its loads.
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
    """Compute the sums over N of N x `columns`."""
    total = tl.zeros([block_n, block_k], tl.float32)
    for start in range(0, batch, block_n):
        total += load_rows(source, start + tl.arange(0, block_n), column, batch, columns)
    tl.store(target + column, tl.sum(total, 0).to(target.dtype.element_ty), mask=column < columns)


@triton.jit
def write_norm_gradients(
    plain, moved, dsqueezed, mean, mu, variance, gate, weight, dweight, dbias, of_x, constant,
    c, eps, batch, channels, pixels,
    block_n: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of BatchNorm's weight and bias, and `of_x` and `constant` of dx, for the channels `c`."""
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
    count = 1.0 * batch * pixels  # may exceed 2^31
    times_x = -slope * inverse * weights / count
    tl.store(of_x + c, times_x, mask=of_channels)
    tl.store(constant + c, -slope * biases / count - times_x * centre, mask=of_channels)


@triton.jit
def find_coefficients(
    plain, moved, dexcited, dhidden, dsqueezed, mean, mu, variance, squeezed, hidden, gate, weight, dweight, dbias,
    dreduce, dexpand, dreduce_bias, dexpand_bias, of_x, constant,
    eps, batch, channels, width, pixels,
    block_n: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Compute all gradients of parameters, and `of_x` and `constant`, C, for `blend_maps`.

    The first programs compute blocks of `dreduce`, as many others blocks of `dexpand`, and the last ones blocks of
    channels.
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
            plain, moved, dsqueezed, mean, mu, variance, gate, weight, dweight, dbias, of_x, constant,
            (program - 2 * products) * block_c + tl.arange(0, block_c), eps, batch, channels, pixels, block_n, block_c,
        )  # fmt: skip
