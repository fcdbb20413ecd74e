"""The record of a run: everything that its file says, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from cnnperf.records.case import AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.rounds import NO_ROUNDS, Rounds

Scalar = str | int | float | bool | None

MOMENTARY = frozenset(
    {
        "load_average",
        "cpu_frequency_mhz",
        "gpu_clock_sm_mhz",
        "gpu_clock_memory_mhz",
        "gpu_power_w",
        "gpu_other_processes",
        "gpu_temperature_c",
        "gpu_throttle_reasons",
        "gpu_utilization_percent",
    }
)
"""What differs between two moments of one machine."""


class Over(msgspec.Struct, frozen=True, omit_defaults=True):
    """Paired ratio of a case to another case of its block.

    Attributes:
        axes: Axes in which the other case differs, with its values.
        ratio: Latency of the case over that of the other case, with its interval.
    """

    axes: dict[str, AxisValue]
    ratio: Value


class CaseRecord(msgspec.Struct, frozen=True):
    """The record of one measured case.

    Attributes:
        case: The axes.
        values: By metric name, metrics that this version does not know among them.
        rounds: Seconds of the timed calls; empty when the run was saved without them.
        findings: Reasons to distrust the values.
        processes: Median seconds of a call in each process that timed the case; empty where only one did.
        seconds: Duration of the whole case, compilation and memory measurement included; None if unknown.
        ranks: Seconds of each process's rounds, where several trained together: of whole steps (`step`) and of steps
            `without_communication`.
        stopped: `interval` or `budget`: what ended the sampling.
        test: Full name of the test or command that measured it.
        block: Name of the block: cases that were measured side by side, so that their n-th groups are pairs. Empty for
            a case that was measured alone.
        ratios: Ratios to other cases of the block.
    """

    case: Case
    values: Mapping[str, Value] = {}
    rounds: Rounds = NO_ROUNDS
    findings: tuple[Finding, ...] = ()
    processes: tuple[float, ...] = ()
    seconds: float | None = None
    ranks: Mapping[str, tuple[tuple[float, ...], ...]] = {}
    stopped: str = ""
    test: str = ""
    block: str = ""
    ratios: tuple[Over, ...] = ()

    @property
    def groups(self) -> tuple[tuple[float, ...], ...]:
        """Seconds of the rounds, one tuple a group; raises RunFileError where they are damaged."""
        return self.rounds.groups

    def over(self, other: CaseRecord) -> Value | None:
        """Return the paired ratio to another case of the block; None where the run holds none."""
        if not self.block or self.block != other.block:
            return None
        found = (each.ratio for each in self.ratios if self.case.replace(**each.axes) == other.case)
        return next(found, None)

    def unit(self, metric: str) -> str:
        """Return the unit of a value: that of the file, or of the metric."""
        return self.values[metric].unit or (METRICS[metric].unit if metric in METRICS else "")

    def with_values(self, values: Mapping[str, Value]) -> CaseRecord:
        """Return the record with more values."""
        return msgspec.structs.replace(self, values={**self.values, **values})


class NotMeasured(msgspec.Struct, frozen=True):
    """The reason why a case, or every case that shares some axes, was not measured.

    Attributes:
        axes: All axes of one case, or only those that the cases share.
        reason: One phrase.
    """

    axes: dict[str, AxisValue]
    reason: str


class ForeignRecord(msgspec.Struct, frozen=True):
    """A benchmark of another suite: the name of its test, and the median of its rounds in seconds."""

    test: str
    latency: Value


class Head(msgspec.Struct, frozen=True):
    """What distinguishes a run from others, for a list of runs.

    Attributes:
        time: In UTC.
        commit: As in `Run`.
        suite: As in `Run`.
        cases: Number of measured cases.
        regressed: As in `Run`.
    """

    time: datetime | None
    commit: str
    suite: str
    cases: int
    regressed: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a run. What a file does not say is None or empty.

    Attributes:
        time: Time of saving, in UTC.
        commit_info: What pytest-benchmark knows of the commit: `id` and `dirty` among others.
        machine_info: What pytest-benchmark knows of the machine.
        ours: Whether cnnperf wrote it; other benchmark suites write files of the same format.
        suite: Name of the suite.
        planned: Number of planned cases.
        cases: The measured cases in the order of measuring.
        foreign: Benchmarks of other suites in the same file.
        not_measured: The cases that were not measured.
        findings: Findings about the whole run.
        environment: The flat record of the machine.
        ceilings: By device: `copy_bandwidth` in B/s, `matmul_rate_<precision>` in flop/s.
        wall_seconds: Duration of the whole run.
        compile_seconds: Duration of compilation, a part of `wall_seconds`.
        round_seconds: Duration of the rounds whose times were kept, a part of `wall_seconds`.
        anchor: Commit to which the metric `anchor_ratio` relates; empty where there is none.
        regressed: Baseline against which the run was found to be worse when it was made; empty where it was not.
        step: Gain of throughput below which a sweep stops doubling its batch; None where the run does not say.
        hosts: Host of each process, where several trained together.
        shard: Part of a suite, such as `2/5`; empty for a whole one.
        of_cases: Digest of all cases of the suite of which the run is a shard.
    """

    time: datetime | None = None
    commit_info: Mapping[str, Any] = {}
    machine_info: Mapping[str, Any] = {}
    ours: bool = True
    suite: str = ""
    planned: int | None = None
    cases: tuple[CaseRecord, ...] = ()
    foreign: tuple[ForeignRecord, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()
    findings: tuple[Finding, ...] = ()
    environment: Mapping[str, Scalar] = {}
    ceilings: Mapping[str, Mapping[str, float]] = {}
    wall_seconds: float | None = None
    compile_seconds: float | None = None
    round_seconds: float | None = None
    anchor: str = ""
    regressed: str = ""
    step: float | None = None
    hosts: tuple[str, ...] = ()
    shard: str = ""
    of_cases: str = ""

    @property
    def commit(self) -> str:
        """The first ten characters of the commit's id, with `+dirty` for uncommitted changes."""
        name = str(self.commit_info.get("id") or "")
        short = name[:10] if re.fullmatch("[0-9a-f]{10,}", name) else name  # "unversioned" is no hash to shorten
        return f"{short}+dirty" if self.commit_info.get("dirty") else short

    @property
    def machine(self) -> str:
        """`<cpu model>`, or `<cpu model> + <gpu model>`."""
        cpu = self.machine_info.get("cpu")
        brand = cpu.get("brand_raw") if isinstance(cpu, Mapping) else None
        model = self.environment.get("cpu_model") or brand or self.machine_info.get("node") or ""
        return " + ".join(str(name) for name in (model, self.environment.get("gpu_model")) if name)

    def head(self) -> Head:
        """Return what distinguishes it from other runs."""
        return Head(self.time, self.commit, self.suite, len(self.cases), self.regressed)

    def replace(self, **fields: Any) -> Run:
        """Return the run with other fields."""
        return msgspec.structs.replace(self, **fields)
