"""Triton kernel of a tail's forward in training that computes the gate from the moments of the batch."""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.excitation import channels_of, write_gate


@triton.jit
def mean_of_parts(
    means, sample, c, batch, channels, pixels, parts, chunk, block_parts: tl.constexpr, block_c: tl.constexpr
):
    """Return the means of a sample's channels `c`, computed from those of its parts."""
    sums = tl.zeros([block_parts, block_c], tl.float32)
    for start in range(0, parts, block_parts):
        part = start + tl.arange(0, block_parts)
        inside = (part < parts)[:, None] & (c < channels)[None, :]
        places = (part * batch + sample)[:, None] * channels + c[None, :]
        values = tl.minimum(pixels - part * chunk, chunk).to(tl.float32)
        sums += values[:, None] * tl.load(means + places, mask=inside, other=0.0)
    return tl.sum(sums, 0) / pixels


@triton.jit
def excite_normalized(
    means, mean, mu, variance, squeezed, hidden, gate, weight, bias, reduce, expand, reduce_bias, expand_bias, batches,
    eps, batch, channels, width, pixels, parts, chunk,
    counted: tl.constexpr, single: tl.constexpr, whole: tl.constexpr, reduce_biased: tl.constexpr,
    expand_biased: tl.constexpr, block_c: tl.constexpr, block_h: tl.constexpr, block_parts: tl.constexpr,
):  # fmt: skip
    """Compute a sample's means and squeezed means and, if `whole`, its hidden values and gate.

    If batches are `counted`, add 1 to their number.
    """
    sample, begin, end = channels_of(channels, whole, block_c)
    row = sample * channels
    if counted:  # noqa: SIM102 - Triton would evaluate both sides of an `and`
        if tl.program_id(0) == 0:
            tl.store(batches, tl.load(batches) + 1)
    for start in range(begin, end, block_c):
        c = start + tl.arange(0, block_c)
        inside = c < channels
        if single:  # the mean of the one part is the sample's
            own = tl.load(mean + row + c, mask=inside, other=0.0)
        else:
            own = mean_of_parts(means, sample, c, batch, channels, pixels, parts, chunk, block_parts, block_c)
            tl.store(mean + row + c, own, mask=inside)
        centre = tl.load(mu + c, mask=inside, other=0.0)
        spread = tl.load(variance + c, mask=inside, other=1.0)
        slope = tl.load(weight + c, mask=inside, other=0.0).to(tl.float32) * tl.rsqrt(spread + eps)
        shift = tl.load(bias + c, mask=inside, other=0.0).to(tl.float32)
        tl.store(squeezed + row + c, (own - centre) * slope + shift, mask=inside)
    if whole:
        write_gate(
            squeezed + row, hidden + sample * width, hidden, gate + row, reduce, expand, reduce_bias, expand_bias,
            channels, width, reduce_biased, expand_biased, False, False, block_c, block_h,
        )  # fmt: skip
