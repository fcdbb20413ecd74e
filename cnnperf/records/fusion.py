"""The record of the fusion benchmark: all forms of a part of a network at one shape, measured side by side."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from cnnperf.records.case import Count
from cnnperf.records.metrics import Value

KEY = "cnnperf_fusion"
FUSED = "fused"
TEXTBOOK = ("eager", "compile")
"""The forms that every record has beside the fused one."""


class FusionRecord(msgspec.Struct, frozen=True):
    """One cell of the fusion benchmark.

    Attributes:
        part: `se`, `tail`, `block` or `network`.
        trains: Whether forward and backward were run, or inference.
        shape: N, C, H, W.
        layout: `contiguous` or `channels_last`.
        precision: `fp32` or `bf16`.
        seconds: Median seconds of one call by form: device time on a GPU, else host time.
        over_fused: Ratio of each other form to the fused one.
        rounds: Number of rounds of each form.
        device: `cpu` or `cuda:N`; records without it are of the CPU.
        host_seconds: Wall seconds of one synchronized call by form, where `seconds` is device time; else empty.
        floor_seconds: Seconds of the fewest passes at the speed of a copy; None without such a floor.
        not_captured: Reason by form that has no device time.
        over_floor: Ratio of the fused form to its floor; None for a part without a floor.
        over_fused_compile: Ratio of the compiled textbook form to the fused one inside torch.compile, or None.
        over_plain: Ratio of each form with SE to the same part without, run in the same way; empty where there is none.
        calls: Calls of one replay by form, where `seconds` is device time; else empty.
        floor_passes: Passes over a map that the part needs at least, or None.
        stopped: `interval` or `budget`: what ended the sampling.
    """

    part: str
    trains: bool
    shape: tuple[Count, ...]
    layout: str
    precision: str
    seconds: dict[str, Value]
    over_fused: dict[str, Value]
    rounds: Count
    device: str = "cpu"
    host_seconds: dict[str, Value] = {}
    floor_seconds: Value | None = None
    not_captured: dict[str, str] = {}
    over_floor: Value | None = None
    over_fused_compile: Value | None = None
    over_plain: dict[str, Value] = {}
    calls: dict[str, Count] = {}
    floor_passes: float | None = None
    stopped: str = ""

    def __post_init__(self) -> None:
        """Check that the textbook forms and the fused one are there, and that every value has an interval.

        Raises:
            ValueError: If one is missing.
        """
        textbook = {form for form in TEXTBOOK if form not in self.not_captured}
        for name, forms in (("seconds", textbook | {FUSED}), ("over_fused", textbook)):
            missing = sorted(forms - getattr(self, name).keys())
            if missing:
                raise ValueError(f"{missing[0]!r} is missing in {name}")
        for name, value in self._values():
            if value.low is None or value.high is None:
                raise ValueError(f"{'low' if value.low is None else 'high'!r} is missing in {name}")

    def _values(self) -> Iterator[tuple[str, Value]]:
        for name in msgspec.structs.asdict(self):
            given = getattr(self, name)
            if isinstance(given, Value):
                yield name, given
            elif isinstance(given, dict):
                yield from ((f"{name}.{form}", one) for form, one in given.items() if isinstance(one, Value))
