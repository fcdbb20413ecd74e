"""Columns of the tidy frame and their types. Nothing here needs pandas."""

from __future__ import annotations

from cnnperf.records.case import AXES

AXIS_NAMES = tuple(axis.name for axis in AXES)
RUN_COLUMNS = ("run", "time", "commit", "machine")
CASE_COLUMNS = ("test", *AXIS_NAMES)
VALUE_COLUMNS = ("metric", "value", "low", "high", "rounds", "unit", "reason")
COLUMNS = (*RUN_COLUMNS, *CASE_COLUMNS, *VALUE_COLUMNS)
"""The columns of the frame, in order."""

TYPES = (
    dict.fromkeys(("run", "commit", "machine", "test", "metric", "unit"), "category")
    | {"time": "datetime64[us, UTC]", "value": "float64", "low": "float64", "high": "float64", "rounds": "Int64"}
    | {axis.name: "Int64" if axis.type is int else "category" for axis in AXES}
)
