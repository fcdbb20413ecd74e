"""How the GPU kernels divide a map among programs: block sizes by shape, worked out without a device.

A program is one block of threads. Nothing is tuned by trial at the first call: the rules are few, and a run repeats.
They follow from the sizes of registers, caches and processors; there was no device to measure what would be faster.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

TILE = 2048  # numbers of a tile: 16 a thread, which leaves registers for two sums and three maps
PROGRAMS = 1024  # wanted of a sweep that sums: about 8 for each of the 108 to 132 multiprocessors of an A100 or H100
LINE = 64  # channels that a tile of a channels_last map has next to each other: a cache line of 128 bytes in 16 bits
ROW_C, ROW_H = 256, 16  # of the excitation's products
COLUMNS = 8  # channels of a program that sums over the batch: a sector of 32 bytes in fp32
SHARED_MOMENTS = 32  # up to here each sample's program sums over the batch itself and saves a launch

HELD = {True: 16384, False: 8192}
"""Numbers of a map that one program holds in registers, by whether its rows are multiples of 16.

From ptxas of CUDA 12.8 for sm_90: with 16 warps, whose threads have at most 128 registers each, 32 numbers a thread
cost up to 24 bytes spilled where Triton reads rows as vectors, but up to 592 bytes where each number needs an address.
tests/test_fusion_gpu.py asks ptxas again.
"""


class Sweep(NamedTuple):
    """Hold how one sweep divides maps.

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


class Plan(NamedTuple):
    """Hold how all kernels divide maps of one shape.

    Attributes:
        sums: The sweeps that sum.
        writes: The sweeps that only write.
        row_c: Channels of a tile of the excitation's weights.
        row_h: Hidden values of such a tile.
        row_warps: Of a program of the excitation.
        shares_moments: Whether each sample's program sums over the batch itself.
        few_n: Samples of a tile that is then summed over the batch, with row_c channels.
        block_n: Samples of a tile of the programs that only sum over the batch.
        columns: Programs of those.
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
    shares_moments: bool
    few_n: int
    block_n: int
    columns: int
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
    whole_c, whole_p = _cover(channels), _cover(pixels)
    whole, row = whole_c * whole_p, channels if last else pixels
    return Plan(
        sums=sums,
        writes=writes,
        row_c=row_c,
        row_h=row_h,
        row_warps=_warps(row_c * row_h, most=8),
        shares_moments=batch * sums.parts <= SHARED_MOMENTS,
        few_n=min(_cover(batch), TILE // row_c),
        block_n=min(_cover(batch), 128),
        columns=_blocks(channels, COLUMNS),
        held=whole <= HELD[row % 16 == 0],
        whole_c=whole_c,
        whole_p=whole_p,
        whole_warps=max(_warps(whole, most=16), _warps(row_c * row_h, most=8)),
    )


def _sweep(batch: int, channels: int, pixels: int, *, last: bool, parts_wanted: int | None) -> Sweep:
    if last:
        block_c = min(_cover(channels), LINE)
        block_p = min(_cover(pixels), TILE // block_c)
    else:
        block_p = min(_cover(pixels), TILE // 2)
        block_c = min(_cover(channels), TILE // block_p)
    rows = batch * _blocks(channels, block_c)
    most = _blocks(pixels, block_p)
    parts = most if parts_wanted is None else min(most, _blocks(parts_wanted, rows))
    chunk = _blocks(most, parts) * block_p
    parts = _blocks(pixels, chunk)
    return Sweep(block_c, block_p, parts, chunk, rows * parts, _warps(block_c * block_p, most=4))


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _cover(size: int) -> int:
    """Return the smallest power of 2 that is not below `size`."""
    return 1 << (size - 1).bit_length()


def _warps(numbers: int, *, most: int) -> int:
    """Return how many warps give each thread at least 16 of a tile's numbers."""
    return min(max(numbers // 512, 1), most)
