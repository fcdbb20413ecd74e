"""The tidy frame: one row a run, case and metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from cnnperf.records.case import AXES, Case
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run

AXIS_NAMES = tuple(axis.name for axis in AXES)
COLUMNS = (
    *("run", "time", "commit", "machine", "test"),
    *AXIS_NAMES,
    *("metric", "value", "low", "high", "rounds", "unit", "reason"),
)
"""The columns of the frame, in order."""

TYPES = (
    dict.fromkeys(("run", "commit", "machine", "test", "metric", "unit"), "category")
    | {"time": "datetime64[us, UTC]", "value": "float64", "low": "float64", "high": "float64", "rounds": "Int64"}
    | {axis.name: "Int64" if axis.type is int else "category" for axis in AXES}
)


def frame_of(document: Mapping[str, object], run: str) -> pd.DataFrame:
    """Turn one run-file document, read from a file or still in memory, into the tidy frame.

    Args:
        document: The JSON of a run file; only `benchmarks` must be there.
        run: What the column `run` says.

    Returns:
        A frame with `COLUMNS`, values in SI units. A case that was not measured is one row with the metric `latency`,
        the value NaN and its reason; an axis that its record leaves out has its default. A benchmark of another suite
        is one row with the metric `latency`, the name of its test, and no axes.

    Raises:
        RunFileError: If the document is damaged or from a newer version.
    """
    return frame_of_runs([(run, parse_document(document))])


def frame_of_runs(runs: Iterable[tuple[str, Run]]) -> pd.DataFrame:
    """Turn parsed runs, each with its name, into one tidy frame."""
    return typed_frame((row for name, run in runs for row in rows_of(name, run)), COLUMNS, TYPES)


def typed_frame(rows: Iterable[tuple[object, ...]], columns: tuple[str, ...], types: dict[str, str]) -> pd.DataFrame:
    """Build a frame whose column types do not depend on its rows, of which there may be none.

    Args:
        rows: One value a column.
        columns: Names, in order.
        types: Type by column; those that are not named hold text.
    """
    frame = pd.DataFrame(list(rows), columns=list(columns))
    # Rows without a single time would otherwise be taken for numbers.
    times = {name: pd.to_datetime(frame[name], utc=True) for name, kind in types.items() if "datetime" in kind}
    # By way of a text: without rows, categories would be of any kind of object.
    texts = {name: "string" for name in columns if types.get(name) == "category"}
    return frame.assign(**times).astype(texts).astype({name: types.get(name, "str") for name in columns})


def rows_of(name: str, run: Run) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a run: first a row a metric of its cases, then what was not measured, then other suites'."""
    head = (name, run.time, run.commit, run.machine, "")
    for record in run.cases:
        point = _point(record.case)
        for metric, value in record.values.items():
            yield (*head, *point, metric, *_numbers(value), record.unit(metric), "")
    for missing in run.not_measured:
        point = _point(Case.from_axes(missing.axes))
        yield (*head, *point, "latency", *_numbers(Value(math.nan)), METRICS["latency"].unit, missing.reason)
    for foreign in run.foreign:
        point = (pd.NA,) * len(AXIS_NAMES)
        yield (*head[:-1], foreign.test, *point, "latency", *_numbers(foreign.latency), METRICS["latency"].unit, "")


def _point(case: Case) -> tuple[object, ...]:
    return tuple(case.axes().values())


def _numbers(value: Value) -> tuple[float, float, float, object]:
    low, high = (math.nan if end is None else end for end in (value.low, value.high))
    return value.value, low, high, pd.NA if value.rounds is None else value.rounds
