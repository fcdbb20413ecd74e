"""A gate as a run file: seconds of the candidate, and their ratio to the base, which is what the long term can use.

Seconds of two machines do not compare, and not even those of one machine in two months. The ratio to a pinned commit
that was measured in the same job does: with it as the base, a history goes on from machine to machine.
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
    folder: Path, series: Sequence[Series], sides: tuple[Side, Side], environment: Mapping[str, Any], *, withdrawn: bool
) -> Path:
    """Write a run file of the cases that were timed, and return its path.

    Args:
        folder: Where to.
        series: What was measured.
        sides: Base and candidate.
        environment: Of the candidate's worker.
        withdrawn: Whether the base differed from itself: then there is no ratio to it.

    Raises:
        CnnperfError: If it cannot be written; what was there before is still there.
    """
    now, (base, candidate) = datetime.now(UTC), sides
    missing = [NotMeasured(one.case.axes(), verdict_of(one).reason) for one in series if not _timed(one)]
    run = Run(
        time=now,
        machine_info={"node": platform.node(), "cpu": {"brand_raw": environment.get("cpu_model")}},
        commit_info={"id": candidate.commit, "dirty": candidate.dirty},
        suite="gate",
        anchor=base.commit,
        cases=tuple(_record(one, withdrawn=withdrawn) for one in series if _timed(one)),
        environment=dict(environment),
        not_measured=tuple(missing),
    )
    path = folder / f"gate-{now:%Y%m%dT%H%M%S%f}-{candidate.commit[:10]}.json"
    save_run(path, run)
    return path


def _timed(series: Series) -> bool:
    return series.decided is not None and series.decided.found is not None


def _record(series: Series, *, withdrawn: bool) -> CaseRecord:
    placements = [placement for one in (*series.first, *series.second) for placement in one]
    verdict = verdict_of(series)
    latency = verdict.candidate_seconds
    doubt = _doubt(series, withdrawn=withdrawn)
    ratio = None if doubt else _ratio(verdict.found)
    values = {"anchor_ratio": ratio, "latency": None if latency is None else Value(latency)}
    return CaseRecord(
        case=series.case,
        values=with_units({name: value for name, value in values.items() if value is not None}),
        rounds=Rounds(placement.wall[CANDIDATE] for placement in placements),
        findings=tuple(doubt),
        test=f"cnnperf gate::{series.case.id()}",
    )


def _doubt(series: Series, *, withdrawn: bool) -> list[Finding]:
    """Return why there is no ratio that a history could use."""
    meaning, remedy = "there is no ratio to the base in this run", "measure again on a quieter machine"
    found = []
    if withdrawn:
        found.append(Finding("control", "the base differed from itself", meaning, remedy))
    if series.by_cpu:
        found.append(Finding("CPU seconds", "wall seconds were too unsteady to judge by", meaning, remedy))
    return found


def _ratio(found: Estimate | None) -> Value | None:
    if found is None:
        return None
    return Value(math.exp(found.middle), math.exp(found.low), math.exp(found.high), found.count)
