"""The benchmark run: the cases measured so far, their journal on disk, progress and summary.

It does not depend on pytest. The plugin passes it cases and prints its lines.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cnnperf.errors import CnnperfError
from cnnperf.exit_status import ExitStatus
from cnnperf.measure.allocator import apply_policy
from cnnperf.measure.checks import machine_findings
from cnnperf.measure.control_groups import throttled_periods
from cnnperf.measure.cycles import Progress
from cnnperf.measure.environment import Record, load_average, read_environment
from cnnperf.measure.measured import Measured
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.replicas import Replicas
from cnnperf.measure.sampler import INTERRUPTED
from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS, Value, with_units
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.records.writing import Journal
from cnnperf.report.cases import count_text
from cnnperf.report.layout import wrap
from cnnperf.report.terminal import render_run
from cnnperf.report.verdicts import comparison_lines
from cnnperf.runs.baseline import Baseline
from cnnperf.runs.ratio_metrics import with_ratios
from cnnperf.runs.sweeps import with_sweeps
from cnnperf.runs.verdicts import Comparison
from cnnperf.suite.block_runner import BlockRunner
from cnnperf.suite.options import Options
from cnnperf.units import format_duration, format_percent, format_quantity

RATES = ("throughput", "call_rate")
"""Metrics of which each case has one."""


@dataclass
class BenchRun:
    """One benchmark run: the cases that it has measured so far.

    Attributes:
        options: The checked options.
        planned: Number of cases; None where only measuring shows it.
        runner: Measures the blocks of the run.
        write: Receives the state of a block while it is measured.
        laboratory: Measures a case.
        records: Records of the finished cases.
        not_measured: Cases that were not measured, with the reason.
        environment: Environment at the beginning of the run.
        journal: Journal of the finished cases; None for a run that is not saved.
        baseline: Saved runs to compare with, or None.
        of_cases: Digest of all cases of the suite; a shard measures a part of them.
        comparison: Comparison with the baseline; None before the end of the run.
        not_compared: Reason why there is no comparison; empty where there is one.
        step: Least gain of throughput for which a sweep doubles its batch; None for the default.
        failures: Number of cases whose network raised an error.
    """

    options: Options
    planned: int | None
    laboratory: Laboratory
    records: list[CaseRecord] = field(default_factory=list)
    not_measured: list[NotMeasured] = field(default_factory=list)
    environment: Record = field(default_factory=dict)
    journal: Journal | None = None
    baseline: Baseline | None = None
    of_cases: str = ""
    comparison: Comparison | None = None
    not_compared: str = ""
    step: float | None = None
    failures: int = 0
    runner: BlockRunner = field(init=False)
    write: Callable[[str], object] = lambda _: None
    compile_seconds: float = 0.0
    round_seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)
    _announced: int = 0
    _to_prepare: int = 0
    _prepared: int = 0
    _spent: list[float] = field(default_factory=list)
    _began: Run = field(default_factory=Run)
    _throttled: int | None = field(default_factory=throttled_periods)

    def __post_init__(self) -> None:
        """Connect the laboratory with the progress of the run."""
        self.runner = BlockRunner(self.laboratory)
        self.laboratory.watch = lambda progress: self.write(progress_text(progress))
        self.laboratory.prepared = self._show_prepared

    @classmethod
    def begin(cls, options: Options, planned: int | None, baseline: Baseline | None = None) -> BenchRun:
        """Apply the memory policy, read the environment and return a run without cases.

        Raises:
            RunFileError: If the baseline comes from an environment in which times cannot be compared.
        """
        policy = apply_policy(options.cpu_allocator)
        environment = read_environment(cpu_allocator=policy, input_kind=options.input_kind)
        environment["cudnn_benchmark"] = options.cudnn_benchmark  # in force while cases run, and not before
        laboratory = Laboratory(options.schedule(), options.input_kind, options.cudnn_benchmark)
        run = cls(options, planned, laboratory, environment=environment, baseline=baseline)
        if baseline is not None:
            baseline.check(environment)
        if options.processes > 1:
            run.runner.replicas = Replicas(options.processes - 1, partial(_laboratory, options.portable()))
        if options.misses_cuda():
            run.not_measured.append(NotMeasured({"device": "cuda"}, "no CUDA device"))
        return run

    def keep_journal(self, folder: Path, commit_info: Mapping[str, Any]) -> None:
        """Create a journal in a folder, and write every finished case to it."""
        self._began = Run(
            time=datetime.now(UTC),
            machine_info={"node": platform.node(), "cpu": {"brand_raw": self.environment["cpu_model"]}},
            commit_info=dict(commit_info),
        )
        self.journal = Journal(folder, self.run())

    def _show_prepared(self, _: Case) -> None:
        """Show how many of the cases that are measured now are ready."""
        self._prepared += 1
        if self._to_prepare > 1:
            self.write(f"{self._prepared} of {self._to_prepare} cases built and checked")

    def announce(self, case: Case) -> str:
        """Return the beginning of the progress line of a case."""
        self._announced += 1
        of = str(self._announced)
        if self.planned is not None:
            of = f"{of:>{len(str(self.planned))}}/{self.planned}"
        others = self.runner.measures_now(case) - 1
        beside = f"(together with {others} other{'s' if others > 1 else ''}) " if others > 0 else ""
        self._to_prepare, self._prepared = others + 1, 0
        return f"[{of}] {case.label()} {beside}"

    def measure(self, case: Case) -> Measured:
        """Measure one case, and with the first case of a block all cases of the block.

        Raises:
            UnsupportedCase: If the case cannot run here; record that with `skip`.
            WrongResult: If its results are wrong; the run keeps nothing of it.
            KeyboardInterrupt: If the user interrupts; the whole cycles of the block are in the run then.
        """
        try:
            measured = self.runner.result(case)
        except KeyboardInterrupt:
            for result, test in self.runner.unreported():
                self.keep(result, test)
            raise
        return measured

    def keep(self, measured: Measured, test: str) -> str:
        """Add a finished case to the run, and return the end of its progress line.

        Args:
            measured: Measurement of the case.
            test: Full name of the test or command that measured it.
        """
        record = measured.record(test)
        self.records.append(record)
        self.compile_seconds += measured.compile_seconds
        self.round_seconds += measured.timed_seconds()
        if self.journal:
            self.journal.add(record)
        self._spent.append(measured.duration)
        latency = record.values["latency"]
        rate = next(
            format_quantity(record.values[name].value, METRICS[name].unit) for name in RATES if name in record.values
        )
        time_text = format_quantity(latency.value, "s")
        return f"{time_text} ±{format_percent(latency.half_width)}, {rate}{self._left()}"

    def kept_cycles(self) -> str:
        """Return what an interrupted run has of its last blocks: `; 12 cycles of 4 cases are kept`."""
        records = [record for record in self.records if record.stopped == INTERRUPTED]
        if not records:
            return ""
        cycles = sorted({len(record.groups) for record in records})
        many = f"{cycles[0]} to {cycles[-1]}" if len(cycles) > 1 else f"{cycles[0]}"
        return f"; {many} cycles of {count_text(len(records), 'case')} are kept"

    def amend(self, case: Case, values: Mapping[str, Value]) -> None:
        """Add values to the record of a finished case."""
        place = next(place for place, record in enumerate(self.records) if record.case == case)
        self.records[place] = self.records[place].with_values(with_units(values))

    def skip(self, case: Case, reason: str, *, failed: bool = False) -> None:
        """Record why a case was not measured, and whether its network raised an error."""
        self.failures += failed
        self.not_measured.append(NotMeasured(case.axes(), reason))
        if self.journal:
            self.journal.skip(self.not_measured[-1])

    def run(self) -> Run:
        """Return the record of the run so far."""
        return self._began.replace(
            suite=self.options.suite,
            planned=self.planned,
            step=self.step,
            shard=str(self.options.shard or ""),
            of_cases=self.of_cases,
            cases=tuple(self.records),
            environment=self.environment,
            ceilings=self.laboratory.ceilings,
            not_measured=tuple(self.not_measured),
            findings=tuple(machine_findings(self.environment, load_average(), self._newly_throttled())),
            wall_seconds=time.perf_counter() - self._started,
            compile_seconds=self.compile_seconds,
            round_seconds=self.round_seconds,
        )

    def _newly_throttled(self) -> int | None:
        """Return in how many periods of the run the kernel stopped this process for its quota; None if unknown."""
        now = throttled_periods()
        return None if now is None or self._throttled is None else now - self._throttled

    def finished(self, commit_info: Mapping[str, Any]) -> Run:
        """Return the record of the run at its end, with ratios, metrics of sweeps and the result of the comparison.

        Args:
            commit_info: Facts of pytest-benchmark about the commit.
        """
        run = with_ratios(with_sweeps(self.run().replace(commit_info=commit_info)))
        if self.compare(run) and self.comparison:
            # The saved file says so, so that `latest` never chooses the run as a baseline.
            return run.replace(regressed=self.comparison.base)
        return run

    def compare(self, run: Run) -> bool:
        """Return whether the run is worse than its baseline; only the first call compares.

        If the runs cannot be compared, the summary gives the reason, and the run is saved all the same.

        Args:
            run: Record of this run.
        """
        if self.baseline is not None and self.comparison is None and not self.not_compared:
            try:
                self.comparison = self.baseline.compare(run)
            except CnnperfError as error:
                self.not_compared = f"not compared with the baseline: {error}"
        return self.comparison is not None and self.comparison.status() == ExitStatus.FAILED

    def end(self) -> int:
        """End the further processes, and return the exit status.

        It is that of the comparison with the baseline. Without one, a run of which nothing was measured has failed if
        networks raised errors.
        """
        if self.runner.replicas is not None:
            self.runner.replicas.close()
        self.compare(self.run())
        if self.baseline is None or not self.baseline.fails:
            return ExitStatus.FAILED if self.failures and not self.records else ExitStatus.OK
        return ExitStatus.UNSURE if self.comparison is None else self.comparison.status()

    def summary(self) -> list[str]:
        """Return the lines of the summary."""
        return render_run(self.run())

    def comparison_lines(self) -> list[str]:
        """Return the lines of the comparison with the baseline; none without one."""
        return comparison_lines(self.comparison) if self.comparison is not None else wrap(self.not_compared)

    def _left(self) -> str:
        """Return how many cases are left, and an estimate of the time of those that are not measured yet."""
        left = (self.planned or 0) - self._announced
        if left <= 0:
            return ""
        seconds = (left - self.runner.waiting()) * sum(self._spent) / len(self._spent)
        return f"  ({left} left, about {format_duration(seconds)})" if seconds > 0 else f"  ({left} left)"


def progress_text(progress: Progress) -> str:
    """Return the state of a block, `12 cycles, widest ratio ±6.1%, at most 4 s left`, or the visit of several."""
    widest = f", widest ratio ±{format_percent(progress.widest)}" if math.isfinite(progress.widest) else ""
    left = format_duration(max(0.0, progress.budget - progress.spent))
    done = f"visit {progress.visit} of {progress.visits}" if progress.visit else count_text(progress.cycles, "cycle")
    return f"{done}{widest}, at most {left} left"


def _laboratory(options: Options) -> Laboratory:
    """Return the laboratory of a further process."""
    apply_policy(options.cpu_allocator)
    return Laboratory(options.schedule(), options.input_kind, options.cudnn_benchmark)
