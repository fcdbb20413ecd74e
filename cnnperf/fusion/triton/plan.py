"""How the GPU kernels divide a map among programs: block sizes by shape, worked out without a device.

A program is one block of threads. Nothing is tuned by trial at the first call: the rules are few, and a run repeats.
They follow from the sizes of registers, caches and processors; there was no device to measure what would be faster.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

TILE = {True: 4096, False: 2048}
"""Numbers of a tile, by whether the map is channels_last, of which more loads are under way at a time with 32 a thread.
"""

PROCESSORS = 132  # multiprocessors of an H100
PROGRAMS = 4 * PROCESSORS  # wanted of a sweep that sums
LINE = 32  # channels that a tile of a channels_last map has next to each other: a cache line of 128 bytes in fp32
ROW_C, ROW_H = 256, 16  # of the excitation's products
PARTS = 16  # partial sums of a tile that are added up together
COLUMNS = 8  # channels of a program that only sums over the batch: a sector of 32 bytes in fp32
CONCLUDED = 16384  # partial sums that the last program of a block of channels adds up; more are left to a launch
PRODUCT = (128, 8, 16)  # samples, hidden values and channels of a tile of a product over the batch
MANY_CHANNELS = 1024  # from here on one program a sample would read too many weights by itself
TO_HIDDEN, TO_CHANNELS = (16, 4, 256), (16, 16, 64)  # samples, rows and columns of a tile of the products by rows

HELD = {True: 16384, False: 8192}
"""Numbers of a map that one program holds in registers, by whether its rows are multiples of 16.

From ptxas of CUDA 12.8 for sm_90: with 16 warps, whose threads have at most 128 registers each, 32 numbers a thread
cost up to 24 bytes spilled where Triton reads rows as vectors, but up to 592 bytes where each number needs an address.
tests/test_fusion_gpu_compile.py asks ptxas again. A program of 16 warps is alone on a multiprocessor; where there are
more samples than multiprocessors the smaller number lets two run on one.
"""


class Sweep(NamedTuple):
    """Division of maps into the programs of one sweep.

    Attributes:
        block_c: Channels of a tile.
        block_p: Pixels of a tile.
        parts: Programs for the pixels of one block of channels.
        chunk: Pixels of a part, a multiple of block_p.
        programs: In all.
        warps: Of a program.
    """

    block_c: int
    block_p: int
    parts: int
    chunk: int
    programs: int
    warps: int


class Rows(NamedTuple):
    """How the rows of a product of the excitation are divided among programs.

    Attributes:
        block_n: Samples of a tile.
        block_r: Rows of a tile.
        block_k: Columns of a tile.
        programs: In all.
        warps: Of a program.
    """

    block_n: int
    block_r: int
    block_k: int
    programs: int
    warps: int


class Plan(NamedTuple):
    """Division of maps of one shape into the programs of all kernels.

    Attributes:
        sums: The sweeps that sum.
        writes: The sweeps that only write.
        row_c: Channels of a tile of the excitation's weights.
        row_h: Hidden values of such a tile.
        row_warps: Of a program of the excitation.
        ending_warps: Of a program that sums and may go on with the excitation of a sample.
        quads: Whether rows are multiples of 4 numbers.
        row_parts: Partial sums of a channel that are added up together.
        concludes: Whether the last program of a block of channels finds the batch's moments.
        rows: Partial sums of a channel in a tile of such a program.
        block_n: Partial sums of a channel in a tile of the programs that only find the batch's moments.
        columns: Programs of those.
        product_n: Samples of a tile of the products over the batch.
        product_h: Hidden values of such a tile.
        product_c: Channels of such a tile.
        product_warps: Of a program that has such a tile.
        products: Programs of those, for both products and for blocks of channels.
        wide: Whether the rows of the excitation's products are divided among programs, and not the samples.
        sample_programs: Programs of what is N x C and comes before those products: a sample's channels, or a block.
        to_hidden: The products whose rows are hidden values.
        to_channels: The products whose rows are channels.
        held: Whether a program can hold a sample's map.
        whole_c: Channels of a tile that covers a sample.
        whole_p: Pixels of a tile that covers a sample.
        whole_warps: Of a program that holds a sample.
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
    """Return the smallest power of 2 that is not below `size`."""
    return 1 << (size - 1).bit_length()


def _warps(numbers: int, *, most: int) -> int:
    """Return how many warps give each thread at least 16 of a tile's numbers."""
    return min(max(numbers // 512, 1), most)
