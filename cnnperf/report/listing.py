"""Lists for a terminal: saved runs, architectures, metrics, and checks of a machine."""

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
    """Return a line per run, the latest last."""
    rows = []
    for name, head in sorted(runs, key=lambda named: named[1].time or _EARLIEST):
        time = ABSENT if head.time is None else f"{head.time:%Y-%m-%d %H:%M}"
        texts = (text or ABSENT for text in (head.commit, head.suite, str(head.cases), head.regressed))
        rows.append((name, time, *texts))
    header = ("run", "time (UTC)", "commit", "suite", "cases", "worse than")
    return [printable(line) for line in grid(header, rows)]


def architecture_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Return the name and summary of each architecture."""
    return [line for name, summary in rows for line in wrap(f"{name}: {summary}")]


def metric_lines() -> list[str]:
    """Return unit, better direction, kind and meaning of each metric."""
    lines: list[str] = []
    for metric in METRICS.values():
        better = "neither way better" if metric.better == "neither" else f"{metric.better} is better"
        kind = "counter" if metric.counter else "measured"
        lines += wrap(f"{metric.name} ({metric.unit}, {better}, {kind}): {metric.meaning}")
    return lines


def doctor_lines(findings: Sequence[Finding], checks: int) -> list[str]:
    """Return the findings about a machine, each with its meaning and remedy."""
    if not findings:
        return [f"Nothing that disturbs measurements was found in {checks} checks."]
    lines = [f"{len(findings)} of {checks} checks found something that disturbs measurements:"]
    for finding in findings:
        lines += ["", *wrap(f"{finding.kind}: {finding.seen}"), *wrap(f"  {finding.meaning}", rest="  ")]
        lines.append(f"  {finding.remedy}")
    return lines
