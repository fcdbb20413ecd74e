"""Lists for a terminal: saved runs, architectures, metrics, and what disturbs a machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cnnperf.records.finding import Finding
from cnnperf.records.metrics import METRICS
from cnnperf.records.run import Head
from cnnperf.report.layout import grid, printable, wrap
from cnnperf.units import ABSENT

_EARLIEST = datetime.min.replace(tzinfo=UTC)


def run_lines(runs: Iterable[tuple[str, Head]]) -> list[str]:
    """Return a line a run, the latest last."""
    ordered = sorted(runs, key=lambda named: named[1].time or _EARLIEST)
    header = ("run", "time (UTC)", "commit", "suite", "cases", "worse than")
    rows = [
        (
            name,
            ABSENT if run.time is None else f"{run.time:%Y-%m-%d %H:%M}",
            run.commit or ABSENT,
            run.suite or ABSENT,
            str(run.cases),
            run.regressed or ABSENT,
        )
        for name, run in ordered
    ]
    return [printable(line) for line in grid(header, rows)]


def architecture_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line an architecture, from its name and summary."""
    return [line for name, summary in rows for line in wrap(f"{name}: {summary}")]


def metric_lines() -> list[str]:
    """Return a line a metric: unit, better direction, whether it is a counter, and what it is."""
    lines: list[str] = []
    for metric in METRICS.values():
        kind = "counter" if metric.counter else "measured"
        lines += wrap(f"{metric.name} ({metric.unit}, {metric.better} is better, {kind}): {metric.meaning}")
    return [line.replace("neither is better", "neither way better") for line in lines]


def doctor_lines(found: Sequence[Finding], checks: int) -> list[str]:
    """Return what disturbs a machine, each with what it means and what mends it."""
    if not found:
        return [f"Nothing that disturbs measurements was found in {checks} checks."]
    lines = [f"{len(found)} of {checks} checks found something that disturbs measurements:"]
    for finding in found:
        lines += ["", *wrap(f"{finding.kind}: {finding.seen}"), *wrap(f"  {finding.meaning}", rest="  ")]
        lines.append(f"  {finding.remedy}")
    return lines
