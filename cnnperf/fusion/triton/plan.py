"""Division of a map among the programs of the GPU kernels: block sizes by shape, computed without a device.

A program is one block of threads. Nothing is tuned by trial on the first call: there are few rules, and runs are
reproducible. The rules follow from the sizes of registers, caches and processors; they were not tuned on a device.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

TILE = {True: 4096, False: 2048}
"""Numbers of a tile by whether the map is channels_last, where 32 numbers a thread keep more loads in flight."""

PROCESSORS = 132  # multiprocessors of an H100
PROGRAMS = 4 * PROCESSORS  # fewest programs of a sweep that sums, if the map is large enough
LINE = 32  # channels of a tile of a channels_last map: a cache line of 128 bytes in fp32
ROW_C, ROW_H = 256, 16  # channels and hidden values of a tile of the excitation's products
PARTS = 16  # partial sums of a channel that are added up together
COLUMNS = 8  # channels of a program that only sums over the batch: a sector of 32 bytes in fp32
CONCLUDED = 16384  # most partial sums that the last program of a block of channels adds up; more take another launch
PRODUCT = (128, 8, 16)  # samples, hidden values and channels of a tile of a product over the batch
MANY_CHANNELS = 1024  # channels from which on one program a sample would read too many weights
TO_HIDDEN, TO_CHANNELS = (16, 4, 256), (16, 16, 64)  # samples, rows and columns of a tile of the products by rows

HELD = {True: 16384, False: 8192}
"""Most numbers of a map that one program holds in registers, by whether its rows are multiples of 16.

From ptxas of CUDA 12.8 for sm_90: with 16 warps, whose threads have at most 128 registers each, 32 numbers a thread
spill up to 24 bytes if Triton reads rows as vectors, but up to 592 bytes if each number needs an address.
tests/test_fusion_gpu_compile.py checks this with ptxas. A program of 16 warps occupies a multiprocessor. If there are
more samples than multiprocessors, the smaller number lets two programs run on one.
"""


class Sweep(NamedTuple):
    """Division of maps into the programs of one sweep.

    Attributes:
        block_c: Channels of a tile.
        block_p: Pixels of a tile.
        parts: Number of programs for the pixels of one block of channels of a sample.
        chunk: Pixels of a part, a multiple of block_p.
        programs: Number of programs.
        warps: Warps of a program.
    """

    block_c: int
    block_p: int
    parts: int
    chunk: int
    programs: int
    warps: int


class Rows(NamedTuple):
    """Division of a product of the excitation into programs by rows.

    Attributes:
        block_n: Samples of a tile.
        block_r: Rows of a tile.
        block_k: Columns of a tile.
        programs: Number of programs.
        warps: Warps of a program.
    """

    block_n: int
    block_r: int
    block_k: int
    programs: int
    warps: int


class Plan(NamedTuple):
    """Division of maps of one shape into the programs of all kernels.

    Attributes:
        sums: Sweeps that sum.
        writes: Sweeps that only write.
        row_c: Channels of a tile of the excitation's weights.
        row_h: Hidden values of such a tile.
        row_warps: Warps of a program of the excitation.
        ending_warps: Warps of a program that sums and may continue with the excitation of a sample.
        quads: Whether rows are multiples of 4 numbers.
        row_parts: Partial sums of a channel that are added up together.
        concludes: Whether the last program of a block of channels computes the batch's moments.
        rows: Partial sums of a channel in a tile of such a program.
        block_n: Partial sums of a channel in a tile of the programs that only compute the batch's moments.
        columns: Number of such programs.
        product_n: Samples of a tile of the products over the batch.
        product_h: Hidden values of such a tile.
        product_c: Channels of such a tile.
        product_warps: Warps of a program with such a tile.
        products: Number of such programs, for both products and for blocks of channels.
        wide: Whether the excitation's products are divided among programs by rows instead of by samples.
        sample_programs: Number of programs before those products, for a sample's channels or for a block of them.
        to_hidden: Products whose rows are hidden values.
        to_channels: Products whose rows are channels.
        held: Whether a program can hold a sample's map in registers.
        whole_c: Channels of a tile that covers a sample.
        whole_p: Pixels of a tile that covers a sample.
        whole_warps: Warps of a program that holds a sample.
    """

    sums: Sweep
    writes: Sweep
    row_c: int
    row_h: int
    row_warps: int
    ending_warps: int
    quads: bool
    row_parts: int
    concludes: bool
    rows: int
    block_n: int
    columns: int
    product_n: int
    product_h: int
    product_c: int
    product_warps: int
    products: int
    wide: bool
    sample_programs: int
    to_hidden: Rows
    to_channels: Rows
    held: bool
    whole_c: int
    whole_p: int
    whole_warps: int


@cache
def plan(batch: int, channels: int, pixels: int, width: int, *, last: bool) -> Plan:
    """Divide maps among programs.

    Args:
        batch: N.
        channels: C.
        pixels: H W.
        width: C/r.
        last: Whether the map is channels_last.

    Returns:
        Block sizes, which are powers of 2, and numbers of programs.
    """
    sums = _sweep(batch, channels, pixels, last=last, parts_wanted=PROGRAMS)
    writes = _sweep(batch, channels, pixels, last=last, parts_wanted=None)
    row_c, row_h = min(_cover(channels), ROW_C), min(_cover(width), ROW_H)
    row_warps = _warps(row_c * row_h, most=8)
    whole_c, whole_p = _cover(channels), _cover(pixels)
    whole, row = whole_c * whole_p, channels if last else pixels
    of_batch = batch * sums.parts
    wide = channels >= MANY_CHANNELS
    product_n, product_h, product_c = (
        min(_cover(size), most) for size, most in zip((batch, width, channels), PRODUCT, strict=True)
    )
    return Plan(
        sums=sums,
        writes=writes,
        row_c=row_c,
        row_h=row_h,
        row_warps=row_warps,
        ending_warps=max(sums.warps, row_warps),
        quads=row % 4 == 0,
        row_parts=min(_cover(sums.parts), PARTS),
        concludes=of_batch * sums.block_c <= CONCLUDED,
        rows=min(_cover(of_batch), max(TILE[True] // sums.block_c, 1)),
        block_n=min(_cover(of_batch), 256),
        columns=_blocks(channels, COLUMNS),
        product_n=product_n,
        product_h=product_h,
        product_c=product_c,
        product_warps=_warps(product_n * product_h * product_c, most=8),
        products=_blocks(channels, product_c) * (2 * _blocks(width, product_h) + 1),
        wide=wide,
        sample_programs=batch * _blocks(channels, row_c) if wide else batch,
        to_hidden=_rows(batch, width, channels, TO_HIDDEN),
        to_channels=_rows(batch, channels, width, TO_CHANNELS),
        held=whole <= (HELD[row % 16 == 0] if batch <= PROCESSORS else min(HELD.values())),
        whole_c=whole_c,
        whole_p=whole_p,
        whole_warps=max(_warps(whole, most=16), row_warps),
    )


def _rows(batch: int, rows: int, columns: int, most: tuple[int, int, int]) -> Rows:
    block_n, block_r, block_k = (
        min(_cover(size), limit) for size, limit in zip((batch, rows, columns), most, strict=True)
    )
    programs = _blocks(batch, block_n) * _blocks(rows, block_r)
    return Rows(block_n, block_r, block_k, programs, _warps(block_n * block_r * block_k, most=8))


def _sweep(batch: int, channels: int, pixels: int, *, last: bool, parts_wanted: int | None) -> Sweep:
    if last:
        block_c = min(_cover(channels), LINE)
        block_p = min(_cover(pixels), TILE[last] // block_c)
    else:
        block_p = min(_cover(pixels), TILE[last] // 2)
        block_c = min(_cover(channels), TILE[last] // block_p)
    rows = batch * _blocks(channels, block_c)
    most = _blocks(pixels, block_p)
    parts = most if parts_wanted is None else min(most, _blocks(parts_wanted, rows))
    chunk = _blocks(most, parts) * block_p
    parts = _blocks(pixels, chunk)
    return Sweep(block_c, block_p, parts, chunk, rows * parts, _warps(block_c * block_p, most=8))


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _cover(size: int) -> int:
    """Return the smallest power of 2 that is at least `size`."""
    return 1 << (size - 1).bit_length()


def _warps(numbers: int, *, most: int) -> int:
    """Return the number of warps, up to `most`, with which each thread has at least 16 numbers of a tile."""
    return min(max(numbers // 512, 1), most)
