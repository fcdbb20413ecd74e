"""The raw rounds: one row per timed call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from cnnperf.records.reading import parse_document
from cnnperf.records.run import Run
from cnnperf.runs.columns import AXIS_NAMES, TYPES
from cnnperf.runs.frame import typed_frame

COLUMNS = ("run", *AXIS_NAMES, "group", "round", "seconds", "block", "cycle")
"""The columns of the frame of samples, in order."""

SAMPLE_TYPES = {name: kind for name, kind in TYPES.items() if name in ("run", *AXIS_NAMES)} | {
    "group": "int64",
    "round": "int64",
    "seconds": "float64",
    "block": "category",
    "cycle": "Int64",
}


def samples_of(document: Mapping[str, object], run: str) -> pd.DataFrame:
    """Return the raw rounds of one run-file document.

    Args:
        document: JSON of a run file; only `benchmarks` is required.
        run: Text of the column `run`.

    Returns:
        A frame with the columns of `load_samples`. A case that was saved without its raw rounds has no rows.

    Raises:
        RunFileError: If the document is damaged or from a newer version.
    """
    return samples_of_runs([(run, parse_document(document))])


def samples_of_runs(runs: Iterable[tuple[str, Run]]) -> pd.DataFrame:
    """Return the raw rounds of runs, given with their names."""
    return typed_frame((row for name, run in runs for row in _rows(name, run)), COLUMNS, SAMPLE_TYPES)


def _rows(name: str, run: Run) -> Iterator[tuple[object, ...]]:
    for record in run.cases:
        point = (name, *record.case.axes().values())
        for number, group in enumerate(record.groups):
            cycle = number if record.block else pd.NA
            for index, seconds in enumerate(group):
                yield (*point, number, index, seconds, record.block, cycle)
