"""What stands in the table of CUDA beside the CPU, as plain records: rows, ratios, best batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from cnnperf.records.case import AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.runs.sweeps import Rivals
from cnnperf.stats.ratio import ratio

COPIES = ("copy_pinned", "copy_pageable")
"""The metrics of copying the images of one call to the device, in seconds."""

LAUNCH_BOUND = "launch-bound"
"""The kind of finding that says what limits a time, and does not question the time itself."""

CHANNELS = 3
IMAGE_ELEMENT_BYTES = 4
"""Images are (N, 3, H, W) in float32 in every form that has a row, automatic mixed precision included."""

_TIMES = {"wall": "latency", "event": "event_latency", "device": "device_latency"}


@dataclass(frozen=True)
class Role:
    """Description of the cases that may stand for a device in one row.

    Attributes:
        name: The row's name.
        precisions: Accepted precisions.
        layout: Accepted layout.
        engines: Accepted engines; empty for all.
    """

    name: str
    precisions: tuple[str, ...] = ("fp32",)
    layout: str = "contiguous"
    engines: tuple[str, ...] = ("eager",)

    def accepts(self, axes: Mapping[str, AxisValue]) -> bool:
        """Return whether the form of a case fits; an axis that is not given fits."""
        return (
            axes.get("precision", self.precisions[0]) in self.precisions
            and axes.get("layout", self.layout) == self.layout
            and (not self.engines or axes.get("engine", self.engines[0]) in self.engines)
        )


ROLES: Mapping[str, tuple[Role, ...]] = {
    "cuda": (
        Role("strict fp32"),
        Role("PyTorch's default", ("conv_tf32",)),
        Role("practice", ("tf32", "amp"), "channels_last", ()),
    ),
    "cpu": (Role("CPU", engines=()), Role("CPU eager")),
}
"""The rows of each kind of device. Where several cases fit a row, the fastest sound one is taken."""


@dataclass(frozen=True)
class BestBatch:
    """Batch with the largest throughput among those measured in one form.

    Attributes:
        record: The case at that batch.
        batches: All batches measured in that form, rising.
    """

    record: CaseRecord
    batches: tuple[int, ...]

    @property
    def at_edge(self) -> bool:
        """Return whether it is the largest batch measured, so that a larger one may be better."""
        return self.record.case.batch == self.batches[-1]


@dataclass(frozen=True)
class DeviceRatio:
    """Latency on the CPU over latency on CUDA of two cases that differ in the device alone.

    The medians are those of rounds taken one case after the other: the ratio is not paired.

    Attributes:
        value: The ratio; above 1 where CUDA is faster, NaN where there is none.
        reason: Why there is no ratio; empty where there is one.
        on_cpu: The case on the CPU, or None.
        with_copies: The ratio with the images copied before each call on CUDA, by the metric of the copy.
    """

    value: Value = field(default_factory=lambda: Value(math.nan))
    reason: str = ""
    on_cpu: CaseRecord | None = None
    with_copies: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceRow:
    """One case that stands for a device.

    Attributes:
        run: Name of the run.
        role: What the case stands for.
        record: The case with its values.
        chosen_from: Number of cases that fitted the row at this batch.
        best: Best batch of this form; None where no throughput was measured.
        against_cpu: Ratio to the CPU; None for a row of the CPU.
    """

    run: str
    role: Role
    record: CaseRecord
    chosen_from: int
    best: BestBatch | None
    against_cpu: DeviceRatio | None

    @property
    def case(self) -> Case:
        """Return the axes of the case."""
        return self.record.case

    def times(self) -> dict[str, Value]:
        """Return the seconds of one call by name: wall, event, device and queued, as far as they were measured."""
        values = {name: value(self.record, metric) for name, metric in _TIMES.items()}
        images = Value(*(float(self.case.batch),) * 3)
        values["queued"] = ratio(images, value(self.record, "queued_throughput"))
        return {name: seconds for name, seconds in values.items() if is_positive(seconds)}

    def copy_shares(self) -> dict[str, Value]:
        """Return the seconds of each copy of the images over the wall time of a call that does without."""
        copies = {name: value(self.record, name) for name in COPIES}
        wall = value(self.record, "latency")
        return {name: ratio(copy, wall) for name, copy in copies.items() if is_positive(copy)}

    def doubts(self) -> list[str]:
        """Return what speaks against the numbers of this row, those of its ratio included."""
        on_cpu = None if self.against_cpu is None else self.against_cpu.on_cpu
        of_cpu = [] if on_cpu is None else [f"the CPU's side of the ratio: {_text(one)}" for one in on_cpu.findings]
        return [*map(_text, self.record.findings), *self._disorder(), *of_cpu]

    def _disorder(self) -> list[str]:
        """Return which time surely exceeds one that contains it."""
        times = self.times()
        present = [(name, times[name]) for name in ("device", "event", "wall") if name in times]
        return [
            f"times out of order: {inner} surely exceeds {outer}, which contains it; they were not read in one state"
            for (inner, short), (outer, long) in pairwise(present)
            if short.low is not None and long.high is not None and short.low > long.high
        ]


@dataclass(frozen=True)
class MissingRow:
    """A row that a run has no case for.

    Attributes:
        run: Name of the run.
        device: Device of the row.
        role: What the row would show.
        reason: Why its case was not measured; empty where the run had none.
    """

    run: str
    device: str
    role: Role
    reason: str


@dataclass(frozen=True)
class DeviceBlock:
    """The rows of one network and phase.

    Attributes:
        case: The axes that all rows share.
        rows: Those of each run: CUDA first, then the CPU.
        missing: Rows without a case.
        crossovers: From which batch on CUDA is faster, by run, where at least three batches were measured on both.
        others: CUDA cases whose form no row stands for.
    """

    case: Case
    rows: tuple[DeviceRow, ...]
    missing: tuple[MissingRow, ...]
    crossovers: tuple[tuple[str, Rivals], ...]
    others: tuple[Case, ...]


def value(record: CaseRecord, metric: str) -> Value:
    """Return the value of a metric; NaN where it was not measured."""
    return record.values.get(metric, Value(math.nan))


def is_positive(measured: Value) -> bool:
    """Return whether a value is a finite number above 0; no quantity of the table is ever 0."""
    return math.isfinite(measured.value) and measured.value > 0


def image_bytes(case: Case) -> int:
    """Return the bytes of the images of one call: N x 3 x H x W numbers in float32."""
    return case.batch * CHANNELS * case.image_size**2 * IMAGE_ELEMENT_BYTES


def _text(finding: Finding) -> str:
    return f"{finding.kind}: {finding.seen}"
