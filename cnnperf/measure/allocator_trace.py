"""The trace of CUDA's caching allocator: every block that a round asks for and gives back, in bytes as requested.

The allocator records each event itself (`torch.cuda.memory._record_memory_history`, for which there is no public
name; https://docs.pytorch.org/docs/stable/torch_cuda_memory.html). The actions `alloc` and `free_requested` have the
bytes that were asked for, before rounding. Events of segments, which are of whole blocks, are left out. A block
counts as free once that is requested, whatever another stream still does with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch

from cnnperf.measure.memory_split import Allocation

SIGNS = {"alloc": 1, "free_requested": -1}
"""Action of a trace entry to the sign of its bytes; all other actions are left out."""

MOST_ENTRIES = 1 << 20


class Mark(NamedTuple):
    """Place in a trace from which on allocations belong to a part of the round."""

    entries: int
    origin: str
    counted: bool


class AllocatorTrace:
    """Recording of the allocator's events on one device, with the parts of a round marked in it."""

    def __init__(self, device: torch.device) -> None:
        """Prepare for a CUDA device; nothing is recorded before `with`."""
        index: int | None = device.index
        self._index = torch.cuda.current_device() if index is None else index
        self._marks: list[Mark] = []

    def __enter__(self) -> Self:
        """Begin to record."""
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=MOST_ENTRIES)  # noqa: SLF001
        return self

    def __exit__(self, *_: object) -> None:
        """End the recording."""
        torch.cuda.memory._record_memory_history(None)  # noqa: SLF001

    def mark(self, origin: str, *, counted: bool = True) -> None:
        """Say that what is allocated from now on belongs to a part of the round.

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
    """Return the allocations of a trace, each with the part of the round that it happened in.

    Args:
        entries: Of one device in order, each with `action`, `addr` and `size`.
        marks: In order; what lies before the first is left out.
    """
    found = []
    ends = [*(mark.entries for mark in marks[1:]), len(entries)]
    for mark, end in zip(marks, ends, strict=True):
        for entry in entries[mark.entries : end]:
            sign = SIGNS.get(entry["action"])
            if sign is not None:
                found.append(Allocation(entry["addr"], sign * entry["size"], mark.origin, mark.counted))
    return found
