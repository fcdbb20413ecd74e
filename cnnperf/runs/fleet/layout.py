"""The layout of a dataset: names and columns of its files, and a run as such a file.

`docs/fleet.md` explains it for other programs that read it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from cnnperf.records.case import AXES
from cnnperf.records.reading import Document
from cnnperf.records.run import Run
from cnnperf.runs.columns import AXIS_NAMES, COLUMNS
from cnnperf.runs.fleet.location import MARK
from cnnperf.runs.frame import rows_of
from cnnperf.runs.series import across_processes

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = 1
"""Version of the layout that is written, and the newest one that is read."""

SUFFIX = ".parquet"
NO_MONTH = "__HIVE_DEFAULT_PARTITION__"
"""Month of a run without a time: Hive, Spark, DuckDB and pyarrow read it as null."""

LAYOUT = ("schema", "axes")
"""Columns that decide whether a file can be read."""

RUN_FACTS = ("suite", "anchor", "regressed", "environment", "cases", "ours")
"""Columns that are equal in all rows of a run."""

_OWN = ("process_median", *RUN_FACTS, "document")
_NUMBERS = {"value", "low", "high", "process_median"}
_COUNTS = {"rounds", "cases", *(axis.name for axis in AXES if axis.type is int)}
_SHORT_NAME = 40  # characters of a machine's name in that of its folder
_ID = 16  # hexadecimal digits of a run's digest that its name begins with


def schema() -> pa.Schema:
    """Return the columns of a file and their types."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    special = {
        "schema": pa.int32(),
        "row": pa.int32(),
        "time": pa.timestamp("us", "UTC"),
        "ours": pa.bool_(),
        "document": pa.string(),
    }
    types = special | dict.fromkeys(_NUMBERS, pa.float64()) | dict.fromkeys(_COUNTS, pa.int64())
    return pa.schema([(name, types.get(name, text)) for name in (*LAYOUT, "row", *COLUMNS, *_OWN)])


def digest_of(document: Document) -> str:
    """Return the digest of a document, which does not depend on the spaces and the order of keys in its file."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(digest: str, name: str) -> str:
    """Return the name of a run in a dataset: behind a digest, because many machines have a `0001_run.json`."""
    return f"{digest[:_ID]}/{name.rpartition('/')[2]}"


def file_prefix(name: str) -> str:
    """Return the beginning of the name of a run's file."""
    return name.partition("/")[0]


def machine_folder(machine: str) -> str:
    """Return the folder of a machine's runs: a legible part of its name, and a digest that makes it unique."""
    short = re.sub("[^a-z0-9]+", "-", machine.lower())[:_SHORT_NAME].strip("-") or "unknown"
    return f"{MARK}{short}-{hashlib.sha256(machine.encode()).hexdigest()[:8]}"


def path_of(digest: str, run: Run) -> str:
    """Return the path of a run's file below the dataset."""
    month = NO_MONTH if run.time is None else month_name(run.time)
    return f"{machine_folder(run.machine)}/month={month}/{digest}{SUFFIX}"


def month_name(time: datetime) -> str:
    """Return the month of a time; names sort in the order of time, even for years before 1000."""
    return f"{time.year:04}-{time.month:02}"


def month_of(path: str) -> str:
    """Return the month in the path of a file; empty for a run without a time."""
    month = path.split("/")[-2].partition("=")[2]
    return "" if month == NO_MONTH else month


def table_of(name: str, run: Run, document: Document) -> pa.Table:
    """Return the rows of a run: those of the tidy frame, with the columns that the history and other queries need.

    The first row holds the whole document. A run without a row in the frame is one row without a metric.

    Args:
        name: Name of the run in the dataset.
        run: The parsed document.
        document: The document.
    """
    import pyarrow as pa

    facts = _facts(run)
    rows = [_named(row) for row in rows_of(name, run)] or [_named((name, run.time, run.commit, run.machine, ""))]
    medians = list(_process_medians(run))
    for number, row in enumerate(rows):
        median = medians[number] if number < len(medians) else None
        row |= {"schema": SCHEMA, "axes": " ".join(AXIS_NAMES), "row": number, "process_median": median, **facts}
    rows[0]["document"] = json.dumps(document, separators=(",", ":"))
    return pa.Table.from_pylist(rows, schema=schema())


def _facts(run: Run) -> dict[str, object]:
    return {
        "suite": run.suite,
        "anchor": run.anchor,
        "regressed": run.regressed,
        "environment": json.dumps(run.environment, sort_keys=True),
        "cases": run.head().cases,
        "ours": run.ours,
    }


def _process_medians(run: Run) -> Iterator[float | None]:
    """Yield the median over the processes for each measured row, in the order of the frame."""
    for record in run.cases:
        for metric in record.values:
            yield across_processes(record, metric)


def _named(row: tuple[object, ...]) -> dict[str, object]:
    return {name: None if value is pd.NA else value for name, value in zip(COLUMNS, row, strict=False)}
