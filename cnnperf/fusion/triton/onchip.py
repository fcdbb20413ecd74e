"""Triton kernels that hold a sample's whole map in registers and therefore read it once, with one program a sample.

`block_c` and `block_p` cover all channels and pixels; `row_c` and `row_h` are the blocks of the excitation's products.
Results of N x C or N x C/r are saved for the backward; in inference they are scratch memory of the program.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import norm_line, through_gate, write_excitation_backward, write_gate
from cnnperf.fusion.triton.kernels import load_channels, tile_at


@triton.jit
def gate_sample(
    x, shortcut, weight, bias, mean, variance, reduce, expand, reduce_bias, expand_bias,
    squeezed, hidden, slopes, gate, out,
    eps, channels, width, pixels,
    tail: tl.constexpr, reduce_biased: tl.constexpr, expand_biased: tl.constexpr, silu: tl.constexpr,
    hard: tl.constexpr, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
    row_c: tl.constexpr, row_h: tl.constexpr,
):  # fmt: skip
    """Write x gate or, if `tail`, relu(BatchNorm(x) gate + shortcut) in inference."""
    sample = tl.program_id(0)
    row = sample * channels
    base, offsets, inside = tile_at(sample, 0, 0, channels, pixels, last, quads, block_c, block_p)
    held = tl.load(x + base + offsets, mask=inside, other=0.0)
    c = tl.arange(0, block_c)
    value = tl.sum(held.to(tl.float32), 1) / pixels
    if tail:
        slope, shift = norm_line(weight, bias, mean, variance, eps, c, c < channels)
        value = value * slope + shift
    tl.store(squeezed + row + c, value, mask=c < channels)
    write_gate(
        squeezed + row, hidden + sample * width, slopes + sample * width, gate + row, reduce, expand, reduce_bias,
        expand_bias, channels, width, reduce_biased, expand_biased, silu, hard, row_c, row_h,
    )  # fmt: skip
    tl.debug_barrier()
    factor = load_channels(gate, sample, 0, channels, block_c)
    if tail:
        added = tl.load(shortcut + base + offsets, mask=inside, other=0.0).to(tl.float32)
        result = (held.to(tl.float32) * slope[:, None] + shift[:, None]) * factor + added
        result = tl.where(result < 0, 0.0, result)
    else:
        result = held.to(tl.float32) * factor
    tl.store(out + base + offsets, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gate_sample_backward(
    grad, x, gate, hidden, slopes, reduce, expand, dexcited, dhidden, dsqueezed, dx, channels, width, pixels,
    silu: tl.constexpr, hard: tl.constexpr, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr,
    block_p: tl.constexpr, row_c: tl.constexpr, row_h: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of x, of the inputs of gate and activation, and of the squeezed means."""
    sample = tl.program_id(0)
    row = sample * channels
    base, offsets, inside = tile_at(sample, 0, 0, channels, pixels, last, quads, block_c, block_p)
    held = tl.load(grad + base + offsets, mask=inside, other=0.0)
    other = tl.load(x + base + offsets, mask=inside, other=0.0)
    c = tl.arange(0, block_c)
    value = tl.sum(held.to(tl.float32) * other.to(tl.float32), 1)
    value = through_gate(value, tl.load(gate + row + c, mask=c < channels, other=0.0), hard)
    tl.store(dexcited + row + c, value, mask=c < channels)
    write_excitation_backward(
        dexcited + row, dhidden + sample * width, dsqueezed + row, hidden + sample * width, slopes + sample * width,
        reduce, expand, channels, width, silu, row_c, row_h,
    )  # fmt: skip
    tl.debug_barrier()
    result = held.to(tl.float32) * load_channels(gate, sample, 0, channels, block_c)
    result += load_channels(dsqueezed, sample, 0, channels, block_c) / pixels
    tl.store(dx + base + offsets, result.to(dx.dtype.element_ty), mask=inside)
