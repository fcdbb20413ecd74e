"""A dataset as a storage of runs; only the needed files, columns and rows are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cnnperf.errors import RunFileError
from cnnperf.records.case import AXES
from cnnperf.records.metrics import metrics_named
from cnnperf.records.reading import Document, parse_document
from cnnperf.records.run import Head, Run
from cnnperf.runs.columns import COLUMNS, TYPES
from cnnperf.runs.files import no_runs
from cnnperf.runs.fleet.layout import month_of
from cnnperf.runs.fleet.listing import list_files
from cnnperf.runs.fleet.location import Location, open_location
from cnnperf.runs.fleet.observations import COLUMNS as OBSERVED
from cnnperf.runs.fleet.observations import datetime_of, observations_of
from cnnperf.runs.fleet.pushdown import of_history, selected
from cnnperf.runs.fleet.scan import read_documents, read_table
from cnnperf.runs.selection import Selection, none_selected
from cnnperf.runs.series import Series, gather, series_of

if TYPE_CHECKING:
    from pyarrow.compute import Expression

_HEAD = ("run", "time", "commit", "suite", "cases", "regressed")
_ORDER = ["time", "run", "row"]
_SHOWN = 20
"""Number of the latest runs whose cases and metrics an error lists."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Dataset:
    """Runs of a dataset. Errors are those of `list_files` and `read_table`, and one if there are no runs."""

    location: Location

    @classmethod
    def at(cls, place: str | Path) -> Dataset:
        """Return the dataset in a folder or at a URL; errors are those of `open_location`."""
        return cls(open_location(place))

    def frame(self, selection: Selection) -> pd.DataFrame:
        """Return the tidy frame of the selected rows, in the order of time."""
        rows = self._read(list_files(self.location, selection), COLUMNS, selected(selection))
        frame = rows[list(COLUMNS)].astype(dict(TYPES) | {"reason": "str"})
        return frame.assign(**{name: _sorted(frame[name]) for name in COLUMNS if TYPES.get(name) == "category"})

    def heads(self, latest: int | None = None) -> list[tuple[str, Head]]:
        """Return the heads of the runs of cnnperf in the order of time: of all, or at least of the latest."""
        files = list_files(self.location, Selection())
        heads: list[tuple[str, Head]] = []
        for _, of_month in groupby(sorted(files, key=month_of, reverse=True), month_of):
            heads = [*self._heads(list(of_month)), *heads]
            if latest is not None and len(heads) >= latest:
                break
        if not heads:
            raise no_runs(self.location.text)
        return heads

    def _heads(self, files: Sequence[str]) -> list[tuple[str, Head]]:
        from pyarrow import compute

        rows = self._read(files, _HEAD, (compute.field("row") == 0) & compute.field("ours"))
        columns = zip(*(rows[name].tolist() for name in _HEAD), strict=True)
        return [(name, Head(datetime_of(time), *facts)) for name, time, *facts in columns]

    def documents(
        self,
        names: Sequence[str] | None = None,
        damaged: Callable[[RunFileError], None] | None = None,  # noqa: ARG002 - in a dataset, a damaged file is always an error
    ) -> Iterator[tuple[str, Document]]:
        """Yield the documents of the named runs, or of all, each with the name of its run."""
        selection = Selection() if names is None else Selection({"run": tuple(names)})
        texts = read_documents(self.location, list_files(self.location, selection))
        return ((name, _parsed(name, text)) for name, text in texts if names is None or name in names)

    def runs(self, names: Sequence[str] | None = None) -> list[tuple[str, Run]]:
        """Return the named runs of cnnperf, or all, in the order of time."""
        runs = [(name, parse_document(document)) for name, document in self.documents(names)]
        ours = [named for named in runs if named[1].ours]
        if not ours:
            raise no_runs(self.location.text)
        return sorted(ours, key=lambda named: (named[1].time or _EARLIEST, _order_of(named[0])))

    def series(self, metric: str, pattern: str, selection: Selection) -> list[Series]:
        """Return the series of a metric, as `series_of` does, without reading a document."""
        condition = of_history(metrics_named(metric), pattern, selection)
        rows = self._read(list_files(self.location, selection), OBSERVED, condition)
        series = gather(observations_of(rows, metric, pattern))
        if not series:
            latest = self.runs([name for name, _ in self.heads()[-_SHOWN:]])
            series_of(latest, metric, pattern)  # raises the error about a missing case or metric
            raise none_selected(pattern, metric, latest[-1][1].machine)
        return series

    def _read(self, files: Sequence[str], columns: Sequence[str], rows: Expression) -> pd.DataFrame:
        """Return rows in the order of time, with the default of each axis that did not exist when they were written."""
        import pyarrow as pa

        table = read_table(self.location, files, list(dict.fromkeys((*columns, "test", "metric", *_ORDER))), rows)
        frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
        frame["run"] = frame["run"].astype("category")
        names = sorted(frame["run"].cat.categories, key=_order_of)
        frame["run"] = frame["run"].cat.set_categories(names, ordered=True)
        return _with_defaults(frame).sort_values(_ORDER, na_position="first", ignore_index=True)


def _order_of(name: str) -> tuple[str, str]:
    """Return the sort key of runs with equal times: the name without its digest, as in a folder, then the name."""
    return name.rpartition("/")[2], name


def _sorted(column: Any) -> Any:
    """Return a column with its used categories in order, as the frame of a folder has them."""
    used = column.cat.remove_unused_categories()
    return used.cat.set_categories(sorted(used.cat.categories), ordered=False)


def _parsed(name: str, text: str | None) -> Document:
    try:
        document = json.loads(text or "")
    except json.JSONDecodeError as error:
        raise _damaged(name) from error
    if not isinstance(document, dict):
        raise _damaged(name)
    return document


def _damaged(name: str) -> RunFileError:
    return RunFileError(f"{name}: its document is damaged; move its file away, and export the run again")


def _with_defaults(frame: pd.DataFrame) -> pd.DataFrame:
    cases = (frame["test"] == "") & frame["metric"].notna()
    for axis in AXES:
        if axis.name not in frame:
            continue
        older = cases & frame[axis.name].isna()
        if older.any():
            column = frame[axis.name].astype("Int64" if axis.type is int else "string")
            frame = frame.assign(**{axis.name: column.mask(older, axis.default)})
    return frame
