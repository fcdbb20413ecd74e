"""The benchmark run: what it has measured so far, kept on disk, counted and summed up.

It knows nothing of pytest; the plugin feeds it cases and prints its lines.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cnnperf.errors import CnnperfError
from cnnperf.exit_status import ExitStatus
from cnnperf.measure.allocator import apply_policy
from cnnperf.measure.checks import machine_findings
from cnnperf.measure.environment import Record, load_average, read_environment
from cnnperf.measure.measurement import Laboratory, Measured
from cnnperf.measure.replicas import Replicas
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.records.writing import Journal
from cnnperf.report.layout import wrap
from cnnperf.report.terminal import render_run
from cnnperf.report.verdicts import comparison_lines
from cnnperf.runs.baseline import Baseline
from cnnperf.runs.swept import with_sweeps
from cnnperf.runs.verdicts import Comparison
from cnnperf.suite.options import Options
from cnnperf.units import format_duration, format_percent, format_quantity

FIRST_GUESS = 3.0  # seconds for one case beside its budget, until cases of its engine have been seen


@dataclass
class BenchRun:
    """One benchmark run: the cases that it has measured so far.

    Attributes:
        options: The checked options.
        planned: Number of cases; None where it shows while measuring.
        laboratory: Measures a case.
        records: Finished cases.
        not_measured: Cases that were not measured, with the reason.
        environment: Read when the run began.
        journal: Or None when the run is not to be saved.
        baseline: What the run is compared with, or None.
        of_cases: Digest of all cases of the suite, of which a shard is one part.
        replicas: Further processes that time each case, or None.
        comparison: With the baseline, once the run has ended.
        not_compared: Why there is none; empty where there is.
        step: What doubling a batch must bring, where the run says it; None for the usual.
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
    replicas: Replicas | None = None
    comparison: Comparison | None = None
    not_compared: str = ""
    step: float | None = None
    compile_seconds: float = 0.0
    round_seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)
    _spent: dict[str, list[float]] = field(default_factory=dict)
    _case_started: float = 0.0
    _began: Run = field(default_factory=Run)

    @classmethod
    def begin(cls, options: Options, planned: int | None, baseline: Baseline | None = None) -> BenchRun:
        """Apply the memory policy, read the environment and get ready.

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
            run.replicas = Replicas(options.processes - 1, partial(_laboratory, options.portable()))
        if options.misses_cuda():
            run.not_measured.append(NotMeasured({"device": "cuda"}, "no CUDA device"))
        return run

    def keep_journal(self, folder: Path, commit_info: Mapping[str, Any]) -> None:
        """Write every finished case to a journal in this folder from now on."""
        self._began = Run(
            time=datetime.now(UTC),
            machine_info={"node": platform.node(), "cpu": {"brand_raw": self.environment["cpu_model"]}},
            commit_info=dict(commit_info),
        )
        self.journal = Journal(folder, self.run())

    def announce(self, case: Case) -> str:
        """Return the line that says what is about to run, and start its watch."""
        self._case_started = time.perf_counter()
        number = len(self.records) + self._tried() + 1
        of = f"{number}" if self.planned is None else f"{number:>{len(str(self.planned))}}/{self.planned}"
        return f"[{of}] {case.label()} "

    def measure(self, case: Case) -> Measured:
        """Measure one case.

        Raises:
            UnsupportedCase: If it cannot run here; record that with `skip`.
            WrongResult: If its results are wrong; nothing is kept.
        """
        self.laboratory.prepare(case)
        self._case_started = time.perf_counter()  # what is done once is no part of the case's own time
        measured = self.laboratory.measure(case)
        if self.replicas is not None:
            others = self.replicas.latencies(case)
            measured = replace(measured, processes=(measured.values["latency"].value, *others))
        self.compile_seconds += measured.compile_seconds
        self.round_seconds += measured.timed_seconds()
        return measured

    def keep(self, measured: Measured, test: str) -> str:
        """Keep a finished case, and return its line of results.

        Args:
            measured: The case.
            test: Full name of the test or command that measured it.
        """
        seconds = time.perf_counter() - self._case_started
        record = msgspec.structs.replace(measured.record(test), seconds=seconds)
        self.records.append(record)
        if self.journal:
            self.journal.add(record)
        self._spent.setdefault(record.case.engine, []).append(seconds)
        latency = record.values["latency"]
        rate = format_quantity(record.values["throughput"].value, "images/s")
        time_text = format_quantity(latency.value, "s")
        return f"{time_text} ±{format_percent(latency.half_width)}, {rate}{self._left()}"

    def amend(self, case: Case, values: Mapping[str, Value]) -> None:
        """Add values to the record of a finished case."""
        place = next(place for place, record in enumerate(self.records) if record.case == case)
        self.records[place] = self.records[place].with_values(with_units(values))

    def skip(self, case: Case, reason: str) -> None:
        """Record a case that cannot be measured, with the reason."""
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
            findings=tuple(machine_findings(self.environment, load_average())),
            wall_seconds=time.perf_counter() - self._started,
            compile_seconds=self.compile_seconds,
            round_seconds=self.round_seconds,
        )

    def finished(self, commit_info: Mapping[str, Any]) -> Run:
        """Return the record of the run at its end: with what its cases say together, and whether it is worse.

        Args:
            commit_info: What pytest-benchmark knows of the commit.
        """
        run = with_sweeps(self.run().replace(commit_info=commit_info))
        if self.compare(run) and self.comparison:
            # Saved in the file, so that the run never becomes a baseline by itself.
            return run.replace(regressed=self.comparison.base)
        return run

    def compare(self, run: Run) -> bool:
        """Compare the run with its baseline and tell whether it is worse; only the first call compares.

        If the runs cannot be compared, the reason is kept for the summary: the run has to be saved all the same.

        Args:
            run: This run.
        """
        if self.baseline is not None and self.comparison is None and not self.not_compared:
            try:
                self.comparison = self.baseline.compare(run)
            except CnnperfError as error:
                self.not_compared = f"not compared with the baseline: {error}"
        return self.comparison is not None and self.comparison.status() == ExitStatus.FAILED

    def end(self) -> int:
        """End the further processes, and return the exit status that the comparison with the baseline asks for."""
        if self.replicas is not None:
            self.replicas.close()
        self.compare(self.run())
        if self.baseline is None or not self.baseline.fails:
            return ExitStatus.OK
        return ExitStatus.UNSURE if self.comparison is None else self.comparison.status()

    def summary(self) -> list[str]:
        """Return the lines that answer what was asked without opening a file."""
        return render_run(self.run())

    def comparison_lines(self) -> list[str]:
        """Return the lines of the comparison with the baseline; none without one."""
        return comparison_lines(self.comparison) if self.comparison is not None else wrap(self.not_compared)

    def _tried(self) -> int:
        return sum("architecture" in missing.axes for missing in self.not_measured)

    def _left(self) -> str:
        """Estimate from the mean of the cases so far."""
        spent = [seconds for of_engine in self._spent.values() for seconds in of_engine]
        left = (self.planned or 0) - len(spent) - self._tried()
        if left <= 0:
            return ""
        return f"  ({left} left, about {format_duration(left * sum(spent) / len(spent))})"


def _laboratory(options: Options) -> Laboratory:
    """Get ready in a further process."""
    apply_policy(options.cpu_allocator)
    return Laboratory(options.schedule(), options.input_kind, options.cudnn_benchmark)
