"""The tidy frame: one row per run, case and metric."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import pandas as pd

from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run
from cnnperf.runs.columns import AXIS_NAMES, CASE_COLUMNS, RUN_COLUMNS, TYPES, VALUE_COLUMNS

Columns = tuple[Sequence[object], ...]
"""Values by column of `VALUE_COLUMNS`."""

_NO_CASE = (pd.NA,) * len(AXIS_NAMES)


def frame_of(document: Mapping[str, object], run: str) -> pd.DataFrame:
    """Return the tidy frame of one run-file document, read from a file or still in memory.

    Args:
        document: JSON of a run file; only `benchmarks` is required.
        run: Text of the column `run`.

    Returns:
        A frame with `COLUMNS`, values in SI units. A case that was not measured is one row with the metric `latency`,
        the value NaN and its reason; an axis that its record leaves out has its default. A benchmark of another suite
        is one row with the metric `latency`, the name of its test, and no axes.

    Raises:
        RunFileError: If the document is damaged or from a newer version.
    """
    return frame_of_runs([(run, parse_document(document))])


def frame_of_runs(runs: Iterable[tuple[str, Run]]) -> pd.DataFrame:
    """Return the tidy frame of runs.

    Args:
        runs: Names and runs. They may be read one by one: no run is kept in memory.
    """
    heads: list[tuple[object, ...]] = []
    points: dict[tuple[object, ...], int] = {}
    places: list[tuple[int, int, int]] = []  # index of the run, index of the point, and number of their rows
    tails = [array("d") if TYPES.get(name) == "float64" else [] for name in VALUE_COLUMNS]
    for name, run in runs:
        heads.append(_head(name, run))
        for point, columns in _blocks(run):
            places.append((len(heads) - 1, points.setdefault(point, len(points)), len(columns[0])))
            for column, values in zip(tails, columns, strict=True):
                column.extend(values)  # type: ignore[arg-type]  # numbers where the column is an array
    of_run, of_point, counts = np.asarray(places, dtype=np.int64).reshape(-1, 3).T
    filled = [np.asarray(column) if isinstance(column, array) else column for column in tails]
    parts = (
        typed_frame(heads, RUN_COLUMNS, TYPES).take(np.repeat(of_run, counts)).reset_index(drop=True),
        typed_frame(points, CASE_COLUMNS, TYPES).take(np.repeat(of_point, counts)).reset_index(drop=True),
        _typed(pd.DataFrame(dict(zip(VALUE_COLUMNS, filled, strict=True))), TYPES),
    )
    return pd.concat(parts, axis=1)


def typed_frame(rows: Iterable[tuple[object, ...]], columns: tuple[str, ...], types: dict[str, str]) -> pd.DataFrame:
    """Return a frame whose column types do not depend on its rows, of which there may be none.

    Args:
        rows: One value per column.
        columns: Names of the columns, in order.
        types: Type by column; other columns hold text.
    """
    return _typed(pd.DataFrame(list(rows), columns=list(columns)), types)


def _typed(frame: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    # Otherwise a column without a single time would be one of numbers.
    names = [str(name) for name in frame]
    times = {name: pd.to_datetime(frame[name], utc=True) for name in names if "datetime" in types.get(name, "")}
    # Converted to text first: without rows, the categories would be objects.
    texts = {name: "string" for name in names if types.get(name) == "category"}
    return frame.assign(**times).astype(texts).astype({name: types.get(name, "str") for name in names})


def rows_of(name: str, run: Run) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a run: metrics of its cases, then cases that were not measured, then other suites."""
    head = _head(name, run)
    for point, columns in _blocks(run):
        for tail in zip(*columns, strict=True):
            yield (*head, *point, *tail)


def _head(name: str, run: Run) -> tuple[object, ...]:
    return name, run.time, run.commit, run.machine


def _blocks(run: Run) -> Iterator[tuple[tuple[object, ...], Columns]]:
    """Yield the rows of each case: its test and axes, and the columns of its values."""
    for record in run.cases:
        units = [sys.intern(record.unit(metric)) for metric in record.values]
        yield _point(record.case), _columns(list(record.values), list(record.values.values()), units)
    for missing in run.not_measured:
        yield _point(Case.from_axes(missing.axes)), _one_row(Value(math.nan), missing.reason)
    for foreign in run.foreign:
        yield (foreign.test, *_NO_CASE), _one_row(foreign.latency)


def _point(case: Case) -> tuple[object, ...]:
    return "", *msgspec.structs.astuple(case)


def _columns(metrics: list[str], values: list[Value], units: list[str], reason: str = "") -> Columns:
    lows = [math.nan if value.low is None else value.low for value in values]
    highs = [math.nan if value.high is None else value.high for value in values]
    rounds = [pd.NA if value.rounds is None else value.rounds for value in values]
    return metrics, [value.value for value in values], lows, highs, rounds, units, [reason] * len(values)


def _one_row(latency: Value, reason: str = "") -> Columns:
    return _columns(["latency"], [latency], [METRICS["latency"].unit], reason)
