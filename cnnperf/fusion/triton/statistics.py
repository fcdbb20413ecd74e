"""Triton kernels of a tail's forward in training: moments of the batch and running statistics.

Means and sums of squared deviations are taken in parts of `chunk` pixels and stored as parts x N x C, in fp32; "row"
refers to a row of these. The last program to finish the sums of a block of channels computes the moments of the batch
from all rows, which saves a launch. The order of summation does not depend on which program is the last, so results are
reproducible bit by bit.
"""
# ruff: noqa: PLR0913, PLR0917 - a kernel takes one argument a pointer, and Triton has no records
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# Triton gives arguments their types at launch.

import triton
import triton.language as tl

from cnnperf.fusion.triton.kernels import place_of, tile_at


@triton.jit
def arrives_last(counter, programs):
    """Count the arrival of a program and return whether it is the last, which may read the writes of all others.

    The barrier orders the writes of all threads before the atomic operation, which releases them to the device and
    acquires those of other programs (PTX ISA, "Memory Consistency Model": causality order is transitive,
    https://docs.nvidia.com/cuda/parallel-thread-execution/#memory-consistency-model). The last program sets the counter
    back to 0 for the next launch.
    """
    tl.debug_barrier()
    last = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == programs - 1
    if last:
        tl.store(counter, 0)
    return last


@triton.jit
def values_of(row, batch, pixels, chunk):
    """Return the number of values in each row of parts x N; the last part may be smaller."""
    return tl.minimum(pixels - row // batch * chunk, chunk).to(tl.float32)


@triton.jit
def write_batch_moments(
    means, squares, mu, variance, running_mean, running_var, batches,
    momentum, c, batch, channels, pixels, parts, chunk,
    tracked: tl.constexpr, cumulative: tl.constexpr, rows: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Compute mean and biased variance over the batch by the law of total variance, and update running statistics.

    For a `cumulative` average the momentum is 1 / (batches + 1); `excite_normalized` counts the batch later.
    """
    of_channels = c < channels
    total = 1.0 * batch * pixels  # may exceed 2^31
    sums = tl.zeros([rows, block_c], tl.float32)
    for start in range(0, parts * batch, rows):
        row = start + tl.arange(0, rows)
        inside = (row < parts * batch)[:, None] & of_channels[None, :]
        places = row[:, None] * channels + c[None, :]
        values = values_of(row, batch, pixels, chunk)
        sums += values[:, None] * tl.load(means + places, mask=inside, other=0.0, cache_modifier=".cg")
    centre = tl.sum(sums, 0) / total
    sums = tl.zeros([rows, block_c], tl.float32)
    for start in range(0, parts * batch, rows):
        row = start + tl.arange(0, rows)
        inside = (row < parts * batch)[:, None] & of_channels[None, :]
        places = row[:, None] * channels + c[None, :]
        values = values_of(row, batch, pixels, chunk)
        between = tl.load(means + places, mask=inside, other=0.0, cache_modifier=".cg") - centre[None, :]
        within = tl.load(squares + places, mask=inside, other=0.0, cache_modifier=".cg")
        sums += tl.where(inside, within + values[:, None] * between * between, 0.0)
    spread = tl.sum(sums, 0) / total
    tl.store(mu + c, centre, mask=of_channels)
    tl.store(variance + c, spread, mask=of_channels)
    if tracked:
        share = 1.0 / (tl.load(batches) + 1).to(tl.float32) if cumulative else momentum
        before = tl.load(running_mean + c, mask=of_channels, other=0.0).to(tl.float32)
        after = before + share * (centre - before)
        tl.store(running_mean + c, after.to(running_mean.dtype.element_ty), mask=of_channels)
        before = tl.load(running_var + c, mask=of_channels, other=0.0).to(tl.float32)
        after = before + share * (spread * (total / (total - 1)) - before)
        tl.store(running_var + c, after.to(running_var.dtype.element_ty), mask=of_channels)


@triton.jit
def load_pixel(
    x, sample, channel, pixel, channels, pixels, last: tl.constexpr, quads: tl.constexpr, block_c: tl.constexpr
):
    """Return a pixel of each channel of a sample, as a column that broadcasts over a tile."""
    base, offsets, inside = tile_at(sample, channel, pixel, channels, pixels, last, quads, block_c, 1)
    return tl.load(x + base + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def sum_moments(
    x, means, squares, counters, mu, variance, running_mean, running_var, batches,
    momentum, batch, channels, pixels, parts, chunk,
    concluding: tl.constexpr, tracked: tl.constexpr, cumulative: tl.constexpr, rows: tl.constexpr, last: tl.constexpr,
    quads: tl.constexpr, block_c: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """Compute mean and sum of squared deviations of each part; if `concluding`, the last program computes moments.

    Deviations are taken from the part's first pixel, so that a large mean does not cancel the variance.
    """
    sample, channel, part = place_of(tl.program_id(0), channels, parts, block_c)
    begin = part * chunk
    end = tl.minimum(begin + chunk, pixels)
    origin = load_pixel(x, sample, channel, begin, channels, pixels, last, quads, block_c)
    sums = tl.zeros([block_c, block_p], tl.float32)
    products = tl.zeros([block_c, block_p], tl.float32)
    for pixel in range(begin, end, block_p):
        base, offsets, inside = tile_at(sample, channel, pixel, channels, pixels, last, quads, block_c, block_p)
        value = tl.load(x + base + offsets, mask=inside, other=0.0).to(tl.float32)
        value = tl.where(inside, value - origin, 0.0)
        sums += value
        products += value * value
    c = channel + tl.arange(0, block_c)
    values = (end - begin).to(tl.float32)
    shifted = tl.sum(sums, 1) / values
    within = tl.sum(products, 1) - values * shifted * shifted
    place = (part * batch + sample) * channels + c
    tl.store(means + place, tl.sum(origin, 1) + shifted, mask=c < channels)
    tl.store(squares + place, tl.where(within < 0, 0.0, within), mask=c < channels)
    if concluding:  # noqa: SIM102 - Triton would evaluate both sides of an `and`
        if arrives_last(counters + channel // block_c, batch * parts):
            write_batch_moments(
                means, squares, mu, variance, running_mean, running_var, batches, momentum, c, batch, channels, pixels,
                parts, chunk, tracked, cumulative, rows, block_c,
            )  # fmt: skip


@triton.jit
def find_batch_moments(
    means, squares, mu, variance, running_mean, running_var, batches, momentum, batch, channels, pixels, parts, chunk,
    tracked: tl.constexpr, cumulative: tl.constexpr, rows: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Run `write_batch_moments` with one program for each block of channels."""
    c = tl.program_id(0) * block_c + tl.arange(0, block_c)
    write_batch_moments(
        means, squares, mu, variance, running_mean, running_var, batches, momentum, c, batch, channels, pixels, parts,
        chunk, tracked, cumulative, rows, block_c,
    )  # fmt: skip
