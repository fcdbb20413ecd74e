"""Triton kernels between the sweeps of a tail in inference and of Squeeze-and-Excitation alone, one program a sample.

They compute a sample's gate from the sums of its map, parts x N x C, in fp32.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import (
    channels_of,
    norm_line,
    sum_parts,
    through_gate,
    write_excitation_backward,
    write_gate,
    write_scaling,
)


@triton.jit
def excite_pooled(
    total, squeezed, hidden, slopes, gate, scale, offset, weight, bias, mean, variance, reduce, expand, reduce_bias,
    expand_bias,
    eps, batch, channels, width, pixels, parts,
    normalized: tl.constexpr, scaled: tl.constexpr, reduce_biased: tl.constexpr, expand_biased: tl.constexpr,
    silu: tl.constexpr, hard: tl.constexpr, whole: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
    block_parts: tl.constexpr,
):  # fmt: skip
    """Compute a sample's squeezed means from the sums of its map and, if `whole`, its hidden values and gate.

    If `normalized`, the gated map is BatchNorm(x) in inference; if also `scaled`, write scale and offset, N x C, that
    turn x into the gated map.
    """
    sample, begin, end = channels_of(channels, whole, block_c)
    row = sample * channels
    for start in range(begin, end, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        value = sum_parts(total, row, c, channels, parts, batch * channels, block_parts, block_c) / pixels
        if normalized:
            slope, shift = norm_line(weight, bias, mean, variance, eps, c, inside)
            if scaled:
                tl.store(scale + row + c, slope, mask=inside)
                tl.store(offset + row + c, shift, mask=inside)
            value = value * slope + shift
        tl.store(squeezed + row + c, value, mask=inside)
    if whole:
        write_gate(
            squeezed + row, hidden + sample * width, slopes + sample * width, gate + row, reduce, expand, reduce_bias,
            expand_bias, channels, width, reduce_biased, expand_biased, silu, hard, block_c, block_h,
        )  # fmt: skip
        if scaled:
            write_scaling(gate + row, scale + row, offset + row, channels, block_c)


@triton.jit
def excite_pooled_backward(
    total, gate, hidden, slopes, reduce, expand, dexcited, dhidden, dsqueezed, batch, channels, width, parts,
    silu: tl.constexpr, hard: tl.constexpr, whole: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr,
    block_parts: tl.constexpr,
):  # fmt: skip
    """Compute a sample's gradients of the gate's input from the sums of grad x, and if `whole` those before it."""
    sample, begin, end = channels_of(channels, whole, block_c)
    row = sample * channels
    for start in range(begin, end, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        value = sum_parts(total, row, c, channels, parts, batch * channels, block_parts, block_c)
        value = through_gate(value, tl.load(gate + row + c, mask=inside, other=0.0), hard)
        tl.store(dexcited + row + c, value, mask=inside)
    if whole:
        write_excitation_backward(
            dexcited + row, dhidden + sample * width, dsqueezed + row, hidden + sample * width,
            slopes + sample * width, reduce, expand, channels, width, silu, block_c, block_h,
        )  # fmt: skip
