"""Analyses of saved runs as frames: two commits compared, and the history with its level shifts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from cnnperf.records.case import AXES, Case
from cnnperf.records.metrics import METRICS, check_metric
from cnnperf.records.tolerance import DEFAULT_TOLERANCE, parse_tolerance
from cnnperf.runs.choose import STORAGE, choose_runs
from cnnperf.runs.columns import AXIS_NAMES
from cnnperf.runs.comparison import compare_sides
from cnnperf.runs.frame import typed_frame
from cnnperf.runs.selection import Time, parse_machine
from cnnperf.runs.series import Change, Series, changes_of
from cnnperf.runs.storage import read_series
from cnnperf.runs.verdicts import CaseVerdict, CounterChange
from cnnperf.stats.ratio import exp

_AXIS_TYPES = {axis.name: "Int64" if axis.type is int else "category" for axis in AXES}
_COMPARISON = (*AXIS_NAMES, *("metric", "verdict", "ratio", "low", "high", "base", "candidate", "unit", "reason"))
_COMPARISON_TYPES = (
    _AXIS_TYPES
    | dict.fromkeys(("metric", "verdict", "unit"), "category")
    | dict.fromkeys(("ratio", "low", "high", "base", "candidate"), "float64")
)
_HISTORY = (
    "series",
    *AXIS_NAMES,
    *("metric", "run", "time", "commit", "value", "unit", "shift", "low", "high", "worse"),
)
_HISTORY_TYPES = (
    _AXIS_TYPES
    | dict.fromkeys(("metric", "run", "commit", "unit"), "category")
    | dict.fromkeys(("value", "shift", "low", "high"), "float64")
    | {"series": "int64", "time": "datetime64[us, UTC]", "worse": "boolean"}
)


def compare_runs(
    base: str | Path,
    candidate: str | Path,
    storage: str | Path = STORAGE,
    *,
    allow: str | Iterable[str] = DEFAULT_TOLERANCE,
    any_machine: bool = False,
) -> pd.DataFrame:
    """Compare the saved runs of two commits, as `cnnperf compare` does.

    Args:
        base: Baseline: a file or folder, `latest`, `latest~2`, the number of a run, a commit, or a branch.
        candidate: Candidate, in the same form.
        storage: Folder or URL of the runs, where a side is not a path.
        allow: Largest acceptable slowdown, such as `5%`; of some cases `se_*=3%`.
        any_machine: Compare runs of different environments too.

    Returns:
        A frame with the axes of the case and the columns metric, verdict, ratio (candidate over base), low and high
        (its interval; a one-sided error of 1 % in all is divided among the cases), base, candidate (medians), unit and
        reason. It has one row per case with the metric `latency`, whose verdict is `faster`, `same`, `slower`,
        `unsure`, `new`, `gone` or `not-comparable`, and one row per counter that differs, whose verdict is `worse`,
        `better` or `changed`.

    Raises:
        OptionError: If `allow` is not a tolerance.
        RunFileError: If a side does not exist, cannot be read or has several commits, or the environments differ.
    """
    tolerance = parse_tolerance([allow] if isinstance(allow, str) else list(allow), "allow")
    before, after = (choose_runs(str(side), storage) for side in (base, candidate))
    comparison = compare_sides(before, after, tolerance, any_machine=any_machine)
    rows = [*map(_verdict_row, comparison.cases), *map(_counter_row, comparison.counters)]
    return typed_frame(rows, _COMPARISON, _COMPARISON_TYPES)


def history(
    path: str | Path = STORAGE,
    metric: str = "latency",
    case: str = "*",
    *,
    least: float = 0.025,
    machine: str | None = None,
    since: Time | None = None,
    until: Time | None = None,
) -> pd.DataFrame:
    """Return a metric over the saved runs, and where its level changed, as `cnnperf history` does.

    Args:
        path: Folder of the runs, or URL of a fleet's dataset.
        metric: Name of a metric that `cnnperf list metrics` explains, or `ratio` for the three of paired ratios.
        case: Glob over architectures or labels of cases.
        least: Smallest level shift of a time that matters, as a fraction.
        machine: Machine, as in the column `machine` of `load_runs`; None for all.
        since: Earliest time, such as `2026-01-31`.
        until: End of the period, excluded.

    Returns:
        A frame with a row per run of each series, in the order of time: series (its number: one per case and machine,
        or one per case for a ratio), the axes, metric, run, time, commit, value, unit; and, at the first run that
        surely is at a new level, shift (new level over old, minus 1), low and high (the shift's 95 % interval; of a
        counter the shift itself) and worse. Where the level did not change these four are missing.

    Raises:
        OptionError: If there is no such metric, or a time is not valid.
        RunFileError: If no run is selected, or none has the metric for a matching case.
        CnnperfError: If ruptures, of the extra `history`, is not installed.
    """
    check_metric(metric, "metric")
    series = read_series(path, metric, case, parse_machine(machine, since, until))
    changes = changes_of(series, least)
    rows = (row for number, line in enumerate(series) for row in _series_rows(number, line, changes))
    return typed_frame(rows, _HISTORY, _HISTORY_TYPES)


def _verdict_row(case: CaseVerdict) -> tuple[object, ...]:
    log = case.found
    ratios = (math.nan,) * 3 if log is None else tuple(map(exp, (log.middle, log.low, log.high)))
    medians = (math.nan if side is None else side for side in (case.base_seconds, case.candidate_seconds))
    return (*_axes(case.case), "latency", case.verdict, *ratios, *medians, "s", case.reason)


def _counter_row(change: CounterChange) -> tuple[object, ...]:
    before, after = (math.nan if side is None else side for side in (change.before, change.after))
    ratio = after / before if before else math.nan
    unit = METRICS[change.name].unit if change.name in METRICS else "1"
    return (*_axes(change.case), change.name, change.kind, ratio, ratio, ratio, before, after, unit, "")


def _series_rows(number: int, series: Series, changes: Iterable[Change]) -> Iterator[tuple[object, ...]]:
    begun = {change.first.run: change for change in changes if change.series is series}
    head = (number, *_axes(series.case), series.metric)
    for point in series.points:
        change = begun.get(point.run)
        shift: tuple[object, ...] = (math.nan, math.nan, math.nan, pd.NA)
        if change is not None:
            shift = (change.ratio - 1, change.low - 1, change.high - 1, change.worse)
        yield (*head, point.run, point.time, point.commit, point.value, METRICS[series.metric].unit, *shift)


def _axes(case: Case) -> tuple[object, ...]:
    return tuple(case.axes().values())
