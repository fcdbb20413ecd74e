"""Rows of a dataset as points of series."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import cache

import pandas as pd

from cnnperf.records.case import Case
from cnnperf.records.metrics import metrics_named
from cnnperf.runs.columns import AXIS_NAMES
from cnnperf.runs.series import Observation, Point, fits
from cnnperf.runs.series_facts import Environment, Facts, changeable, machine_of, shared_facts

COLUMNS = (
    *("run", "time", "commit", "machine", "anchor", "environment"),
    *AXIS_NAMES,
    *("metric", "value", "process_median"),
)


def observations_of(rows: pd.DataFrame, metric: str, pattern: str) -> Iterator[Observation]:
    """Yield the points of the cases that a glob matches, each with its metric, case and machine.

    Args:
        rows: Rows of the metrics with `COLUMNS`, in the order of time.
        metric: Name of the metric, or of several such as `ratio`.
        pattern: Glob over architectures or labels of cases.
    """
    names = metrics_named(metric)

    @cache
    def case_of(*axes: str | int) -> Case | None:
        case = Case.from_axes(dict(zip(AXIS_NAMES, axes, strict=True)))
        return case if fits(case, pattern) else None

    @cache
    def machine_and_software(environment: str, machine: str, anchor: str) -> tuple[Facts, Environment]:
        record = json.loads(environment)
        return machine_of(record, machine, anchor, metric), changeable(record, names)

    value = rows["process_median"].fillna(rows["value"])
    times = map(datetime_of, rows["time"])
    axes = zip(*(rows[name].tolist() for name in AXIS_NAMES), strict=True)
    texts = zip(*(rows[name].tolist() for name in ("environment", "machine", "anchor")), strict=True)
    points = zip(rows["metric"], rows["run"], rows["commit"], value.tolist(), times, strict=True)
    for point, facts, (name, run, commit, number, time) in zip(axes, texts, points, strict=True):
        case = case_of(*point)
        if case is not None:
            machine, software = machine_and_software(*facts)
            yield name, case, shared_facts(case, name, machine), Point(run, commit, number, software, time)


def datetime_of(time: object) -> datetime | None:
    """Return the time of a run as the records have it."""
    return time.to_pydatetime() if isinstance(time, pd.Timestamp) else None
