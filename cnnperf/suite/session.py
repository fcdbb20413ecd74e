"""The session: what one benchmark run has measured so far, kept on disk, counted and summed up.

It knows nothing of pytest; the plugin feeds it cases and prints its lines.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cnnperf.errors import CnnperfError
from cnnperf.measure.allocator import apply_policy
from cnnperf.measure.checks import machine_findings
from cnnperf.measure.environment import Record, load_average, read_environment
from cnnperf.measure.measurement import Laboratory, Measured
from cnnperf.measure.replicas import Replicas
from cnnperf.records.case import Case
from cnnperf.report.layout import wrap
from cnnperf.report.terminal import render
from cnnperf.report.verdicts import comparison_lines
from cnnperf.runs.baseline import Baseline
from cnnperf.runs.verdicts import FINE, NO_VERDICT, WORSE, Comparison
from cnnperf.suite.options import Options
from cnnperf.units import format_duration, format_percent, format_quantity

SCHEMA = 1
FIRST_GUESS = 3.0  # seconds for one case beside its budget, until cases of its engine have been seen


class Journal:
    """Append each finished case to a file at once, so that a crash loses none of them."""

    def __init__(self, folder: Path, head: Mapping[str, Any]) -> None:
        """Create the file, named after the time, with `head` as its first line.

        Raises:
            OSError: If the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self.path = folder / f"cnnperf-{stamp}.journal.jsonl"
        self._append({"cnnperf_journal": 1, **head})

    def add(self, benchmark: Mapping[str, Any]) -> None:
        """Append one finished case."""
        self._append(benchmark)

    def close(self) -> None:
        """Delete the file: a saved run file holds everything."""
        self.path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


@dataclass
class Session:
    """Measure the cases of one run.

    Attributes:
        options: The checked options.
        planned: Number of cases; None where it shows while measuring.
        laboratory: Measures a case.
        benchmarks: Finished cases, as they stand in the run file.
        not_measured: Cases with the reason why they were not measured.
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
    benchmarks: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[dict[str, Any]] = field(default_factory=list)
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
    _head: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(cls, options: Options, planned: int | None, baseline: Baseline | None = None) -> Session:
        """Apply the memory policy, read the environment and get ready.

        Raises:
            RunFileError: If the baseline comes from an environment in which times cannot be compared.
        """
        policy = apply_policy(options.cpu_allocator)
        environment = read_environment(cpu_allocator=policy, input_kind=options.input_kind)
        environment["cudnn_benchmark"] = options.cudnn_benchmark  # in force while cases run, and not before
        laboratory = Laboratory(options.schedule(), options.input_kind, options.cudnn_benchmark)
        session = cls(options, planned, laboratory, environment=environment, baseline=baseline)
        if baseline is not None:
            baseline.check(environment)
        if options.processes > 1:
            session.replicas = Replicas(options.processes - 1, partial(_laboratory, options.portable()))
        if options.misses_cuda():
            session.not_measured.append({"axes": {"device": "cuda"}, "reason": "no CUDA device"})
        return session

    def keep_journal(self, folder: Path, commit_info: Mapping[str, Any]) -> None:
        """Write every finished case to a journal in this folder from now on."""
        self._head = {
            "datetime": datetime.now(UTC).isoformat(),
            "machine_info": {"node": platform.node(), "cpu": {"brand_raw": self.environment["cpu_model"]}},
            "commit_info": dict(commit_info),
        }
        self.journal = Journal(folder, {**self._head, "cnnperf": self.facts()})

    def announce(self, case: Case) -> str:
        """Return the line that says what is about to run, and start its watch."""
        self._case_started = time.perf_counter()
        number = len(self.benchmarks) + self._tried() + 1
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

    def keep(self, benchmark: dict[str, Any], case: Case) -> str:
        """Keep a finished case as it will stand in the run file, and return its line of results."""
        seconds = time.perf_counter() - self._case_started
        benchmark["extra_info"]["seconds"] = seconds
        self.benchmarks.append(benchmark)
        if self.journal:
            self.journal.add(benchmark)
        self._spent.setdefault(case.engine, []).append(seconds)
        metrics = benchmark["extra_info"]["metrics"]
        latency = metrics["latency"]
        half_width = (latency["high"] - latency["low"]) / 2 / latency["value"]
        rate = format_quantity(metrics["throughput"]["value"], "images/s")
        time_text = format_quantity(latency["value"], "s")
        return f"{time_text} ±{format_percent(half_width)}, {rate}{self._left()}"

    def skip(self, case: Case, reason: str) -> None:
        """Record a case that cannot be measured, with the reason."""
        self.not_measured.append({"axes": case.axes(), "reason": reason})
        if self.journal:
            self.journal.add({"not_measured": self.not_measured[-1]})

    def facts(self) -> dict[str, Any]:
        """Return what the run file holds beside the cases."""
        findings = machine_findings(self.environment, load_average())
        return {
            "schema": SCHEMA,
            "suite": self.options.suite,
            "planned": self.planned,
            **({} if self.step is None else {"step": self.step}),
            **({"shard": str(self.options.shard), "of_cases": self.of_cases} if self.options.shard else {}),
            "environment": self.environment,
            "ceilings": self.laboratory.ceilings,
            "not_measured": self.not_measured,
            "findings": [finding.as_json() for finding in findings],
            "wall_seconds": time.perf_counter() - self._started,
            "compile_seconds": self.compile_seconds,
            "round_seconds": self.round_seconds,
        }

    def compare(self, document: Mapping[str, Any]) -> bool:
        """Compare the run with its baseline and tell whether it is worse; only the first call compares.

        Where the runs cannot be compared, that is kept for the summary: the run has to be saved all the same.

        Args:
            document: The run file as it will be saved, or as much of it as there is.
        """
        if self.baseline is not None and self.comparison is None and not self.not_compared:
            try:
                self.comparison = self.baseline.compare(document)
            except CnnperfError as error:
                self.not_compared = f"not compared with the baseline: {error}"
        return self.comparison is not None and self.comparison.status() == WORSE

    def end(self) -> int:
        """End the further processes, and return the exit status that the comparison with the baseline asks for."""
        if self.replicas is not None:
            self.replicas.close()
        self.compare(self.document())
        if self.baseline is None or not self.baseline.fails:
            return FINE
        return NO_VERDICT if self.comparison is None else self.comparison.status()

    def summary(self) -> list[str]:
        """Return the lines that answer what was asked without opening a file."""
        return render(self.document())

    def comparison_lines(self) -> list[str]:
        """Return the lines of the comparison with the baseline; none without one."""
        return comparison_lines(self.comparison) if self.comparison is not None else wrap(self.not_compared)

    def document(self) -> dict[str, Any]:
        """Return the run so far, as much as its journal knows of it."""
        return {**self._head, "benchmarks": self.benchmarks, "cnnperf": self.facts()}

    def _tried(self) -> int:
        return sum("architecture" in entry["axes"] for entry in self.not_measured)

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
