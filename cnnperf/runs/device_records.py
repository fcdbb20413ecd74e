"""Plain data of the table of CUDA beside the CPU: roles, rows, ratios and best batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from cnnperf.records.case import AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.runs.pairs import copy_share, queued_latency
from cnnperf.runs.ratios import Ratio, value_of
from cnnperf.runs.sweeps import Rivals

COPIES = ("copy_pinned", "copy_pageable")
"""Metrics of copying the images of one call to the device, in seconds."""

CHANNELS = 3
IMAGE_ELEMENT_BYTES = 4
"""Images are (N, 3, H, W) in float32 in every form that has a row, automatic mixed precision included."""

_TIMES = {"wall": "latency", "event": "event_latency", "device": "device_latency"}


@dataclass(frozen=True)
class Role:
    """Description of the cases that may represent a device in one row.

    Attributes:
        name: Name of the row.
        precisions: Accepted precisions.
        layout: Accepted layout.
        engines: Accepted engines; empty for all.
    """

    name: str
    precisions: tuple[str, ...] = ("fp32",)
    layout: str = "contiguous"
    engines: tuple[str, ...] = ("eager",)

    def accepts(self, axes: Mapping[str, AxisValue]) -> bool:
        """Return whether the axes of a case fit; a missing axis fits."""
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
"""Rows of each type of device. Where several cases fit a row, it shows the fastest one without a finding."""


@dataclass(frozen=True)
class BestBatch:
    """Batch with the largest throughput among those measured in one form.

    Attributes:
        record: Record of the case at that batch.
        batches: All batches measured in that form, rising.
    """

    record: CaseRecord
    batches: tuple[int, ...]

    @property
    def at_edge(self) -> bool:
        """Whether it is the largest batch measured, so that a larger one may be better."""
        return self.record.case.batch == self.batches[-1]


@dataclass(frozen=True)
class DeviceRatio:
    """Latency on the CPU over latency on CUDA of two cases that differ in the device alone.

    Attributes:
        ratio: The ratio; above 1 where CUDA is faster, None where there is none.
        reason: Why there is no ratio; empty where there is one.
        on_cpu: Record on the CPU, or None.
        with_copies: By metric of the copy, the ratio with the images copied before each call on CUDA.
    """

    ratio: Ratio | None = None
    reason: str = ""
    on_cpu: CaseRecord | None = None
    with_copies: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceRow:
    """Case that represents a device.

    Attributes:
        run: Name of the run.
        role: Role of the case.
        record: Record of the case.
        chosen_from: Number of cases that fit the role at this batch.
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
        """Axes of the case."""
        return self.record.case

    def times(self) -> dict[str, Value]:
        """Return the measured seconds of one call by name: wall, event, device and queued."""
        values = {name: value_of(self.record, metric) for name, metric in _TIMES.items()}
        values["queued"] = queued_latency(self.record)
        return {name: seconds for name, seconds in values.items() if is_positive(seconds)}

    def copy_shares(self) -> dict[str, Value]:
        """Return the time of each measured copy of the images over the wall time of a call without it."""
        measured = [name for name in COPIES if is_positive(value_of(self.record, name))]
        return {name: copy_share(self.record, name) for name in measured}

    def doubts(self) -> list[str]:
        """Return the reasons to distrust the numbers of this row and of its ratio."""
        doubts = [finding_text(finding) for finding in self.record.findings]
        times = self.times()
        present = [(name, times[name]) for name in ("device", "event", "wall") if name in times]
        for (inner, short), (outer, long) in pairwise(present):
            if short.low is not None and long.high is not None and short.low > long.high:
                doubts.append(
                    f"times out of order: {inner} surely exceeds {outer}, which contains it; they were not read in one "
                    "state"
                )
        on_cpu = None if self.against_cpu is None else self.against_cpu.on_cpu
        of_cpu = () if on_cpu is None else on_cpu.findings
        return [*doubts, *(f"the CPU's side of the ratio: {finding_text(finding)}" for finding in of_cpu)]


@dataclass(frozen=True)
class MissingRow:
    """Row for which a run has no case.

    Attributes:
        device: Device of the row.
        role: Role of the row.
        reason: Why its case was not measured; empty where the run had none.
    """

    device: str
    role: Role
    reason: str


@dataclass(frozen=True)
class DeviceBlock:
    """Rows of one network and phase.

    Attributes:
        case: Axes that all rows share.
        rows: Rows of each run: CUDA first, then the CPU.
        missing: Rows without a case.
        crossovers: By run, the batch from which CUDA is faster, where at least three batches were measured on both.
        others: CUDA cases whose form has no row.
    """

    case: Case
    rows: tuple[DeviceRow, ...]
    missing: tuple[MissingRow, ...]
    crossovers: tuple[tuple[str, Rivals], ...]
    others: tuple[Case, ...]


def is_positive(measured: Value) -> bool:
    """Return whether a value is a finite number above 0; no quantity of the table is ever 0."""
    return math.isfinite(measured.value) and measured.value > 0


def image_bytes(case: Case) -> int:
    """Return the bytes of the images of one call: N x 3 x H x W numbers in float32."""
    return case.batch * CHANNELS * case.image_size**2 * IMAGE_ELEMENT_BYTES


def finding_text(finding: Finding) -> str:
    """Return the kind of a finding and what was observed."""
    return f"{finding.kind}: {finding.seen}"
