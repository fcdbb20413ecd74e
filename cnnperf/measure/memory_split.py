"""Split of a peak: from allocation events to the peak bytes by use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Allocation:
    """One event of the allocator.

    Attributes:
        address: Address of the block.
        size: Bytes; negative if the block is freed.
        origin: Part of the round: `forward`, `backward` or `step` (of the optimizer).
        counted: False for events of the untimed set-up, whose bytes count but whose peak does not.
    """

    address: int
    size: int
    origin: str = "forward"
    counted: bool = True


def split_peak(events: Sequence[Allocation], gradients: Iterable[int]) -> dict[str, int]:
    """Return the peak of a round and its split.

    Args:
        events: Events of the whole round in order of time.
        gradients: Addresses of the parameters' gradients after the round.

    Returns:
        Bytes of `gradients`, `activations` and `other` at the peak, their sum as `peak`, and as `leaked` the bytes that
        the round allocated and never freed, less those from before the round that it freed: a network may replace a
        tensor in each call.
    """
    kinds = _kinds(events, set(gradients))
    held = {"gradients": 0, "activations": 0, "other": 0}
    live: dict[int, tuple[str, int]] = {}
    peak, replaced, at_peak = 0, 0, dict(held)
    for event, kind in zip(events, kinds, strict=True):
        if event.size > 0:
            live[event.address] = (kind, event.size)
            held[kind] += event.size
        elif event.address in live:  # blocks from before the round are resident bytes
            kind_of_block, size = live.pop(event.address)
            held[kind_of_block] -= size
        else:
            replaced -= event.size
        if event.counted and sum(held.values()) > peak:
            peak, at_peak = sum(held.values()), dict(held)
    return {**at_peak, "peak": peak, "leaked": max(0, sum(held.values()) - replaced)}


def _kinds(events: Sequence[Allocation], gradients: set[int]) -> list[str]:
    """Return the use of each allocation; addresses are reused, so only the last block at an address is the gradient."""
    last = {event.address: index for index, event in enumerate(events) if event.size > 0}
    kinds = []
    for index, event in enumerate(events):
        if event.address in gradients and last.get(event.address) == index:
            kinds.append("gradients")
        else:
            kinds.append("activations" if event.origin == "forward" else "other")
    return kinds
