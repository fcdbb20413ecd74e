"""Trace of CUDA's caching allocator: each block that a round allocates and frees, in requested bytes.

The allocator records the events itself (`torch.cuda.memory._record_memory_history`, which has no public name;
https://docs.pytorch.org/docs/stable/torch_cuda_memory.html). The actions `alloc` and `free_requested` have the
requested bytes, before rounding. Events of segments, which contain whole blocks, are ignored. A block counts as free
once its release is requested, even if another stream still uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch

from cnnperf.measure.memory_split import Allocation

SIGNS = {"alloc": 1, "free_requested": -1}
"""Sign of the bytes by action of a trace entry; other actions are ignored."""

MOST_ENTRIES = 1 << 20


class Mark(NamedTuple):
    """Position in a trace at which a part of the round begins."""

    entries: int
    origin: str
    counted: bool


class AllocatorTrace:
    """Recording of the allocator's events on one device, with marks at the parts of a round."""

    def __init__(self, device: torch.device) -> None:
        """Prepare for a CUDA device; recording starts with the `with` block."""
        index: int | None = device.index
        self._index = torch.cuda.current_device() if index is None else index
        self._marks: list[Mark] = []

    def __enter__(self) -> Self:
        """Start recording."""
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=MOST_ENTRIES)  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        """Stop recording."""
        torch.cuda.memory._record_memory_history(None)  # noqa: SLF001

    def mark(self, origin: str, *, counted: bool = True) -> None:
        """Assign all later allocations to a part of the round.

        Args:
            origin: As in `Allocation`.
            counted: As in `Allocation`.
        """
        self._marks.append(Mark(len(self._entries()), origin, counted))

    def allocations(self) -> list[Allocation]:
        """Return the allocations since the first mark."""
        return allocations_of(self._entries(), self._marks)

    def _entries(self) -> Sequence[Mapping[str, Any]]:
        entries: Sequence[Mapping[str, Any]] = torch.cuda.memory._snapshot()["device_traces"][self._index]  # noqa: SLF001
        return entries


def allocations_of(entries: Sequence[Mapping[str, Any]], marks: Sequence[Mark]) -> list[Allocation]:
    """Return the allocations of a trace, each with its part of the round.

    Args:
        entries: Trace entries of one device in order, each with `action`, `addr` and `size`.
        marks: Marks in order; entries before the first are ignored.
    """
    allocations = []
    ends = [*(mark.entries for mark in marks[1:]), len(entries)]
    for mark, end in zip(marks, ends, strict=True):
        for entry in entries[mark.entries : end]:
            sign = SIGNS.get(entry["action"])
            if sign is not None:
                allocations.append(Allocation(entry["addr"], sign * entry["size"], mark.origin, mark.counted))
    return allocations
