"""A gate as a run file: seconds of the candidate and their ratio to the base, for a history over a long time.

Seconds are not comparable between machines, nor on one machine over months. The ratio to a pinned commit measured in
the same job is comparable: with such a base, a history continues from machine to machine.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnperf.gate.gate import CANDIDATE, Series, verdict_of
from cnnperf.gate.sides import Side
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.records.writing import save_run
from cnnperf.stats.sequential import Estimate


def save_gate(
    folder: Path,
    all_series: Sequence[Series],
    sides: tuple[Side, Side],
    environment: Mapping[str, Any],
    *,
    withdrawn: bool,
) -> Path:
    """Write a run file of the timed cases, and return its path.

    Args:
        folder: Folder of the file.
        all_series: Decided series of all cases.
        sides: Base and candidate.
        environment: Environment of the candidate's worker.
        withdrawn: Whether the base differed from itself; then no ratio to it is saved.

    Raises:
        CnnperfError: If it cannot be written; an older file of that name is untouched.
    """
    now, (base, candidate) = datetime.now(UTC), sides
    timed = [series for series in all_series if _is_timed(series)]
    untimed = [series for series in all_series if not _is_timed(series)]
    run = Run(
        time=now,
        machine_info={"node": platform.node(), "cpu": {"brand_raw": environment.get("cpu_model")}},
        commit_info={"id": candidate.commit, "dirty": candidate.dirty},
        suite="gate",
        anchor=base.commit,
        cases=tuple(_record(series, withdrawn=withdrawn) for series in timed),
        environment=dict(environment),
        not_measured=tuple(NotMeasured(series.case.axes(), verdict_of(series).reason) for series in untimed),
    )
    path = folder / f"gate-{now:%Y%m%dT%H%M%S%f}-{candidate.commit[:10]}.json"
    save_run(path, run)
    return path


def _is_timed(series: Series) -> bool:
    return series.decided is not None and series.decided.found is not None


def _record(series: Series, *, withdrawn: bool) -> CaseRecord:
    verdict, findings = verdict_of(series), _findings(series, withdrawn=withdrawn)
    values: dict[str, Value] = {}
    if verdict.found is not None and not findings:
        values["anchor_ratio"] = _ratio(verdict.found)
    if verdict.candidate_seconds is not None:
        values["latency"] = Value(verdict.candidate_seconds)
    return CaseRecord(
        case=series.case,
        values=with_units(values),
        rounds=Rounds(placement.wall[CANDIDATE] for placement in series.placements()),
        findings=tuple(findings),
        test=f"cnnperf gate::{series.case.id()}",
    )


def _findings(series: Series, *, withdrawn: bool) -> list[Finding]:
    """Return the reasons why a history cannot use the ratio of a series."""
    meaning, remedy = "there is no ratio to the base in this run", "measure again on a quieter machine"
    findings = []
    if withdrawn:
        findings.append(Finding("control", "the base differed from itself", meaning, remedy))
    if series.by_cpu:
        findings.append(Finding("CPU seconds", "wall seconds were too unsteady to judge by", meaning, remedy))
    return findings


def _ratio(estimate: Estimate) -> Value:
    """Return the ratio of an estimated log ratio."""
    return Value(math.exp(estimate.middle), math.exp(estimate.low), math.exp(estimate.high), estimate.count)
