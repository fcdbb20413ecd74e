"""The split of a peak: from the events of an allocator to the most bytes held at once, and what they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """One event of the allocator.

    Attributes:
        address: Of the block.
        size: Bytes; negative when the block is freed.
        origin: `forward`, `backward`, `step` (of the optimizer): the part of the round it happened in.
        counted: False for events of the untimed setup, whose bytes count but whose peak does not.
    """

    address: int
    size: int
    origin: str = "forward"
    counted: bool = True


def split_peak(events: Sequence[Allocation], gradients: Iterable[int]) -> dict[str, int]:
    """Find the peak of a round and what its bytes were.

    Args:
        events: Of the whole round, in order of time.
        gradients: Addresses of the parameters' gradients after the round.

    Returns:
        Bytes of `gradients`, `activations` and `other` at the peak, their sum as `peak`, and `leaked`: what was
        allocated in the round and never freed.
    """
    kinds = _kinds(events, set(gradients))
    held = {"gradients": 0, "activations": 0, "other": 0}
    live: dict[int, tuple[str, int]] = {}
    peak, at_peak = 0, dict(held)
    for event, kind in zip(events, kinds, strict=True):
        if event.size > 0:
            live[event.address] = (kind, event.size)
            held[kind] += event.size
        elif event.address in live:  # a block from before the round is part of the resident bytes
            kind_of_block, size = live.pop(event.address)
            held[kind_of_block] -= size
        if event.counted and sum(held.values()) > peak:
            peak, at_peak = sum(held.values()), dict(held)
    return {**at_peak, "peak": peak, "leaked": sum(held.values())}


def _kinds(events: Sequence[Allocation], gradients: set[int]) -> list[str]:
    """Name each allocation; an address is reused within a round, so only its last block is the gradient."""
    last = {event.address: index for index, event in enumerate(events) if event.size > 0}
    kinds = []
    for index, event in enumerate(events):
        is_gradient = event.address in gradients and last.get(event.address) == index
        kinds.append("gradients" if is_gradient else "activations" if event.origin == "forward" else "other")
    return kinds
