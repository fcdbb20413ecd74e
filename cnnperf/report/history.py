"""The history for a terminal: changes with their commits, then every series with its first and last level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cnnperf.records.metrics import METRICS
from cnnperf.report.layout import WIDTH, Row, grid, printable, shorten, wrap
from cnnperf.runs.acknowledged import FILE, line_of
from cnnperf.runs.series import Change, Series
from cnnperf.runs.series_facts import Facts
from cnnperf.stats.shifts import LEAST_RUNS
from cnnperf.units import ABSENT, format_quantity

HEADER = ("", "runs", "first", "last", "changes")
NAMING = ("cpu_model", "gpu_model", "machine", "relative to")
LAST = 5  # runs at an end of a series whose median is shown


def history_lines(series: Sequence[Series], changes: Sequence[Change], known: Path = FILE) -> list[str]:
    """Return the result first, then each change, then each series, then lines for the file of acknowledged shifts."""
    lines = [*wrap(_headline(series, changes)), *_changes(changes), *_table(series, changes)]
    return [*(shorten(printable(line), WIDTH) for line in lines), *_to_acknowledge(changes, known)]


def _headline(series: Sequence[Series], changes: Sequence[Change]) -> str:
    worse = sum(change.fails for change in changes)
    accepted = sum(bool(change.reason) for change in changes)
    mended = sum(change.worse and change.mended and not change.reason for change in changes)
    others = len(changes) - worse - accepted - mended
    short = sum(len(line.points) < LEAST_RUNS for line in series if not METRICS[line.metric].counter)
    counts = f"{worse} changes for the worse, {accepted} acknowledged, {mended} mended, {others} others"
    metrics = ", ".join(dict.fromkeys(line.metric for line in series))
    text = f"{counts}, in {len(series)} series of {metrics}"
    text += f"; {short} of them have fewer than {LEAST_RUNS} runs and are not searched" if short else ""
    unusable = sum(line.unusable for line in series)
    return f"{text}; {unusable} values that are no numbers above 0 are left out." if unusable else f"{text}."


def _changes(changes: Sequence[Change]) -> list[str]:
    ordered = sorted(changes, key=lambda change: (not change.fails, not change.worse))
    return ["", *(line for change in ordered for line in wrap(_change(change)))] if changes else []


def _change(change: Change) -> str:
    word = ("worse, mended since" if change.mended else "worse") if change.worse else "changed"
    size = f"{change.ratio - 1:+.1%}"
    if change.low != change.high:
        size += f" [{change.low - 1:+.1%}, {change.high - 1:+.1%}]"
    text = (
        f"{change.series.case.label()}: {change.series.metric} {size} ({word}) after "
        f"{change.last.commit or change.last.run}, at the latest in {change.first.commit or change.first.run}"
    )
    software = ", ".join(f"{name} {before} -> {after}" for name, (before, after) in change.software.items())
    return text + (f"; with it {software}" if software else "") + (f"; known: {change.reason}" if change.reason else "")


def _table(series: Sequence[Series], changes: Sequence[Change]) -> list[str]:
    lines: list[str] = []
    places = list(dict.fromkeys((line.metric, line.machine) for line in series))
    names = _names([machine for _, machine in places])
    for (metric, machine), name in zip(places, names, strict=True):
        rows = [_row(line, changes) for line in series if (line.metric, line.machine) == (metric, machine)]
        lines += ["", *wrap(f"{metric}, {name}"), *grid(HEADER, rows)]
    return lines


def _names(machines: Sequence[Facts]) -> list[str]:
    """Name each machine by its processors, and by what distinguishes it from the others."""
    shared = set.intersection(*(set(machine) for machine in machines))
    names = []
    for machine in machines:
        facts = [(name, value) for name, value in machine if name in NAMING or (name, value) not in shared]
        names.append(", ".join(f"{name} {value}" for name, value in facts))
    return names


def _row(series: Series, changes: Sequence[Change]) -> Row:
    unit = METRICS[series.metric].unit
    ends = [math.nan, math.nan]
    if series.points:
        ends = [median(point.value for point in part) for part in (series.points[:LAST], series.points[-LAST:])]
    texts = (format_quantity(value, unit) if math.isfinite(value) else ABSENT for value in ends)
    count = sum(change.series is series for change in changes)
    return (series.case.label(), str(len(series.points)), *texts, str(count) if count else "")


def _to_acknowledge(changes: Sequence[Change], known: Path) -> list[str]:
    """Return whole lines, however long, because they are to be copied."""
    lines = [printable(line_of(change)) for change in changes if change.fails and change.commits[-1]]
    if not lines:
        return []
    return ["", f"to acknowledge what is meant to be so, put into {known}:", *(f"  {line}" for line in lines)]
