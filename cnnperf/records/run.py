"""The record of a run: the content of a run file as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

import msgspec

from cnnperf.records.case import AxisValue, Case, Count
from cnnperf.records.finding import Finding
from cnnperf.records.machine import Scalar
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.rounds import NO_ROUNDS, Rounds


class Over(msgspec.Struct, frozen=True, omit_defaults=True):
    """Paired ratio of a case to another case of its block.

    Attributes:
        axes: Axes in which the other case differs, with the values of the other case.
        ratio: Latency of the case over that of the other case, with its interval.
        processes: Number of processes whose ratios it summarizes; 0 for the ratio of a single process.
    """

    axes: dict[str, AxisValue]
    ratio: Value
    processes: Count = 0


class CaseRecord(msgspec.Struct, frozen=True):
    """The record of one measured case.

    Attributes:
        case: Axes of the case.
        values: Values by metric name, including metrics that this version does not know.
        rounds: Seconds of the timed calls; empty if the run was saved without them.
        findings: Reasons to distrust the values.
        processes: Median seconds of a call in each process that timed the case; empty if there was only one.
        seconds: Duration of the whole case in seconds, including compilation and memory measurement; None if unknown.
        ranks: Seconds of each process's rounds if several trained together: of whole steps (`step`) and of steps
            `without_communication`.
        stopped: `interval` or `budget`: what ended the sampling.
        test: Full name of the test or command that measured the case.
        block: Name of the block. Its cases were measured side by side, so that their n-th groups are pairs. Empty for
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
        """Seconds of the rounds, one tuple a group; raises RunFileError if they are damaged."""
        return self.rounds.groups

    def over(self, other: CaseRecord) -> Value | None:
        """Return the paired ratio to another case of the block; None if the run holds none."""
        entry = self.over_entry(other)
        return None if entry is None else entry.ratio

    def over_entry(self, other: CaseRecord) -> Over | None:
        """Return the entry of the paired ratio to another case of the block; None if the run holds none."""
        if self.block and self.block == other.block:
            for over in self.ratios:
                if self.case.replace(**over.axes) == other.case:
                    return over
        return None

    def unit(self, metric: str) -> str:
        """Return the unit of a value, from the file or else from the table of metrics."""
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

    def covers(self, case: Case) -> bool:
        """Return whether a case has the axes that were not measured."""
        return all(getattr(case, name, None) == value for name, value in self.axes.items())


class ForeignRecord(msgspec.Struct, frozen=True):
    """A benchmark of another suite: the name of its test, and the median of its rounds in seconds."""

    test: str
    latency: Value


class Head(msgspec.Struct, frozen=True):
    """Summary of a run for a list of runs.

    Attributes:
        time: Time of saving, in UTC.
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
    """The record of a run. A field that the file lacks is None or empty.

    Attributes:
        time: Time of saving, in UTC.
        commit_info: pytest-benchmark's record of the commit, with `id` and `dirty`.
        machine_info: pytest-benchmark's record of the machine.
        ours: Whether cnnperf wrote the file; other benchmark suites write files of the same format.
        suite: Name of the suite.
        planned: Number of planned cases.
        cases: The measured cases in the order of measuring.
        foreign: Benchmarks of other suites in the same file.
        not_measured: The cases that were not measured.
        findings: Findings about the whole run.
        environment: Flat record of the machine and its software.
        ceilings: Device to its `copy_bandwidth` in B/s and `matmul_rate_<precision>` in flop/s.
        wall_seconds: Duration of the whole run.
        compile_seconds: Duration of compilation, a part of `wall_seconds`.
        round_seconds: Duration of the rounds whose times were saved, a part of `wall_seconds`.
        anchor: Commit that the metric `anchor_ratio` compares with; empty if there is none.
        regressed: Baseline that the run was worse than when it was made; empty if it was not.
        smallest_difference: Smallest difference between two cases that matters, as a fraction; None for the default.
        step: Gain of throughput below which a sweep stops doubling its batch, or None.
        hosts: Host of each process, if several trained together.
        shard: Part of a suite, such as `2/5`; empty for a whole suite.
        of_cases: Digest of all cases of the suite that the run is a shard of.
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
    smallest_difference: float | None = None
    step: float | None = None
    hosts: tuple[str, ...] = ()
    shard: str = ""
    of_cases: str = ""

    def by_case(self) -> dict[Case, CaseRecord]:
        """Return one record for each case.

        Where tests measured a case several times, as pytest-repeat has them do, its latency is the median of theirs:
        they ran in one process, and repetitions in one process are no processes.
        """
        records: dict[Case, list[CaseRecord]] = {}
        for record in self.cases:
            records.setdefault(record.case, []).append(record)
        return {case: _merged(repeated) for case, repeated in records.items()}

    @property
    def commit(self) -> str:
        """The first ten characters of the commit's id, with `+dirty` for uncommitted changes."""
        name = str(self.commit_info.get("id") or "")
        short = name[:10] if re.fullmatch("[0-9a-f]{10,}", name) else name  # "unversioned" stays as it is
        return f"{short}+dirty" if self.commit_info.get("dirty") else short

    @property
    def machine(self) -> str:
        """`<cpu model>`, or `<cpu model> + <gpu model>`."""
        cpu = self.machine_info.get("cpu")
        brand = cpu.get("brand_raw") if isinstance(cpu, Mapping) else None
        model = self.environment.get("cpu_model") or brand or self.machine_info.get("node") or ""
        return " + ".join(str(name) for name in (model, self.environment.get("gpu_model")) if name)

    def head(self) -> Head:
        """Return the summary of the run for a list of runs."""
        return Head(self.time, self.commit, self.suite, len(self.cases), self.regressed)

    def replace(self, **fields: Any) -> Run:
        """Return the run with other values of some fields."""
        return msgspec.structs.replace(self, **fields)


def _merged(repeated: Sequence[CaseRecord]) -> CaseRecord:
    first = repeated[0]
    latencies = [record.values["latency"].value for record in repeated if "latency" in record.values]
    if len(repeated) == 1 or not latencies:
        return first
    return first.with_values({"latency": msgspec.structs.replace(first.values["latency"], value=median(latencies))})
