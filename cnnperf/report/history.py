"""The history for a terminal: what changed and in which commits, then every series with its last level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cnnperf.records.metrics import METRICS
from cnnperf.report.layout import WIDTH, grid, printable, shorten, wrap
from cnnperf.runs.acknowledged import FILE, line_of
from cnnperf.runs.series import Change, Facts, Series
from cnnperf.stats.shifts import LEAST_RUNS
from cnnperf.units import ABSENT, format_quantity

HEADER = ("", "runs", "first", "last", "changes")
NAMING = ("cpu_model", "gpu_model", "machine", "relative to")
LAST = 5  # runs whose median stands for an end of a series


def history_lines(series: Sequence[Series], changes: Sequence[Change], known: Path = FILE) -> list[str]:
    """Return the answer first, then each change, then each series, then lines for the file of known shifts."""
    lines = [*wrap(_headline(series, changes)), *_told(changes), *_table(series, changes)]
    return [*(shorten(printable(line), WIDTH) for line in lines), *_to_acknowledge(changes, known)]


def _headline(series: Sequence[Series], changes: Sequence[Change]) -> str:
    worse = sum(change.fails for change in changes)
    accepted = sum(bool(change.reason) for change in changes)
    mended = sum(change.worse and change.mended and not change.reason for change in changes)
    others = len(changes) - worse - accepted - mended
    short = sum(len(one.points) < LEAST_RUNS for one in series if not METRICS[one.metric].counter)
    parts = [f"{worse} changes for the worse", f"{accepted} acknowledged", f"{mended} mended", f"{others} others"]
    told = f"{', '.join(parts)}, in {len(series)} series of {series[0].metric}"
    told += f"; {short} of them have fewer than {LEAST_RUNS} runs and are not searched" if short else ""
    unusable = sum(one.unusable for one in series)
    return f"{told}; {unusable} values that are no numbers above 0 are left out." if unusable else f"{told}."


def _told(changes: Sequence[Change]) -> list[str]:
    ordered = sorted(changes, key=lambda change: (not change.fails, not change.worse))
    return ["", *(line for change in ordered for line in wrap(_change(change)))] if changes else []


def _change(change: Change) -> str:
    word = ("worse, mended since" if change.mended else "worse") if change.worse else "changed"
    found = f"{change.ratio - 1:+.1%}"
    if change.low != change.high:
        found += f" [{change.low - 1:+.1%}, {change.high - 1:+.1%}]"
    told = (
        f"{change.series.case.label()}: {change.series.metric} {found} ({word}) after "
        f"{change.last.commit or change.last.run}, at the latest in {change.first.commit or change.first.run}"
    )
    software = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in change.software.items())
    return told + (f"; with it {software}" if software else "") + (f"; known: {change.reason}" if change.reason else "")


def _table(series: Sequence[Series], changes: Sequence[Change]) -> list[str]:
    lines: list[str] = []
    machines = list(dict.fromkeys(one.machine for one in series))
    for machine, name in zip(machines, _names(machines), strict=True):
        rows = [_row(one, changes) for one in series if one.machine == machine]
        lines += ["", *wrap(f"{series[0].metric}, {name}"), *grid(HEADER, rows)]
    return lines


def _names(machines: Sequence[Facts]) -> list[str]:
    """Name each machine by its processors, and by what tells it from the others."""
    shared = set.intersection(*(set(machine) for machine in machines))
    return [
        ", ".join(f"{name} {value}" for name, value in machine if name in NAMING or (name, value) not in shared)
        for machine in machines
    ]


def _row(series: Series, changes: Sequence[Change]) -> tuple[str, ...]:
    unit = METRICS[series.metric].unit
    parts = (series.points[:LAST], series.points[-LAST:]) if series.points else ()
    ends = [median(point.value for point in part) for part in parts] or [math.nan, math.nan]
    texts = (format_quantity(value, unit) if math.isfinite(value) else ABSENT for value in ends)
    count = sum(change.series == series for change in changes)
    return (series.case.label(), str(len(series.points)), *texts, str(count) if count else "")


def _to_acknowledge(changes: Sequence[Change], known: Path) -> list[str]:
    """Return whole lines, however long: they are to be copied."""
    lines = [printable(line_of(change)) for change in changes if change.fails and change.commits[-1]]
    return (
        ["", f"to acknowledge what is meant to be so, put into {known}:", *(f"  {line}" for line in lines)]
        if lines
        else []
    )
