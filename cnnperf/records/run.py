"""What a run file says, as plain records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cnnperf.records.case import AxisValue, Case
from cnnperf.records.finding import Finding
from cnnperf.records.fusion import FusionRecord
from cnnperf.records.metrics import Value

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class CaseRecord:
    """Hold what a run file says about one measured case.

    Attributes:
        case: The axes.
        values: In SI units, by metric name; metrics that this version does not know are among them.
        units: Unit by metric name.
        groups: Seconds of the rounds, one tuple a group; empty when the run was saved without raw rounds.
        findings: Reasons to distrust the values.
        processes: Median seconds of one call in each process that timed the case; empty where only one did.
        seconds: That the case took in all, compiling and memory included; NaN where that was not kept.
        ranks: Seconds of each process's rounds, where several trained together: of whole steps (`step`) and of steps
            `without_communication`.
    """

    case: Case
    values: Mapping[str, Value] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[tuple[float, ...], ...] = ()
    findings: tuple[Finding, ...] = ()
    processes: tuple[float, ...] = ()
    seconds: float = math.nan
    ranks: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class NotMeasured:
    """Say why a case, or every case that shares some axes, was not measured.

    Attributes:
        axes: All axes of one case, or only those that the cases share.
        reason: One phrase.
    """

    axes: Mapping[str, AxisValue]
    reason: str


@dataclass(frozen=True)
class ForeignRecord:
    """Hold a benchmark that another suite wrote: the name of its test, and the median of its rounds in seconds."""

    test: str
    latency: Value


@dataclass(frozen=True)
class Head:
    """Hold what tells a run from others; `Run` says what each means.

    Attributes:
        time: In UTC.
        commit: As in `Run`.
        suite: As in `Run`.
        cases: Number of those measured.
        regressed: As in `Run`.
    """

    time: datetime | None
    commit: str
    suite: str
    cases: int
    regressed: str


@dataclass(frozen=True)
class Run:
    """Hold what one run file says. What a document does not tell is None, NaN or empty.

    Attributes:
        time: When it was saved, in UTC.
        commit: The first ten characters of the commit's id, with `+dirty` for uncommitted changes.
        machine: `<cpu model>`, or `<cpu model> + <gpu model>`.
        ours: Whether cnnperf wrote it; other suites of benchmarks leave files of the same kind.
        suite: Name of the suite.
        planned: Number of cases that were to be measured.
        cases: The measured cases in the order of measuring.
        fusion: The cells of the fusion benchmark.
        foreign: Benchmarks of other suites in the same file.
        not_measured: The cases that were not.
        findings: Those about the whole run.
        environment: The flat record of the machine.
        ceilings: By device: `copy_bandwidth` in B/s, `matmul_rate_<precision>` in flop/s.
        wall_seconds: Of the whole run.
        compile_seconds: Spent compiling, a part of `wall_seconds`.
        round_seconds: Spent inside rounds whose times were kept, a part of `wall_seconds`.
        anchor: Commit to which the metric `anchor_ratio` relates; empty where there is none.
        regressed: Against which baseline it was found to be worse when it was made; empty where it was not.
        shard: Which part of a suite it is, such as `2/5`; empty for a whole one.
        hosts: Of each process, where several trained together.
        step: What doubling a batch had to bring for a sweep to go on; None where the run does not say.
    """

    time: datetime | None = None
    commit: str = ""
    machine: str = ""
    ours: bool = True
    suite: str = ""
    planned: int | None = None
    cases: tuple[CaseRecord, ...] = ()
    fusion: tuple[FusionRecord, ...] = ()
    foreign: tuple[ForeignRecord, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()
    findings: tuple[Finding, ...] = ()
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    ceilings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    wall_seconds: float = math.nan
    compile_seconds: float = math.nan
    round_seconds: float = math.nan
    anchor: str = ""
    regressed: str = ""
    step: float | None = None
    hosts: tuple[str, ...] = ()
    shard: str = ""

    def head(self) -> Head:
        """Return what tells it from other runs."""
        return Head(self.time, self.commit, self.suite, len(self.cases) + len(self.fusion), self.regressed)
