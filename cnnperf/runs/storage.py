"""Storages of runs: a folder of run files, or the dataset of a fleet, with one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.request import url2pathname

from cnnperf.errors import RunFileError
from cnnperf.records.reading import Document
from cnnperf.records.run import Head, Run
from cnnperf.runs.fleet.location import is_dataset
from cnnperf.runs.folder import Folder
from cnnperf.runs.selection import Selection

if TYPE_CHECKING:
    import pandas as pd

    from cnnperf.runs.series import Series

_LOCAL = "file:///"


class Storage(Protocol):
    """Place where runs are saved. The name of a run is that of the column `run`."""

    def frame(self, selection: Selection) -> pd.DataFrame:
        """Return the tidy frame of the selected rows."""

    def heads(self, latest: int | None = None) -> list[tuple[str, Head]]:
        """Return the heads of the runs of cnnperf: of all, or at least of so many of the latest."""

    def runs(self, names: Sequence[str] | None = None) -> list[tuple[str, Run]]:
        """Return the named runs of cnnperf, or all."""

    def documents(
        self, names: Sequence[str] | None = None, damaged: Callable[[RunFileError], None] | None = None
    ) -> Iterator[tuple[str, Document]]:
        """Yield the documents of the named runs, or of all; `damaged` receives errors that are raised without it."""

    def series(self, metric: str, pattern: str, selection: Selection) -> list[Series]:
        """Return the series of a metric, or of those of a common name, for the cases that a glob matches.

        Only runs of the selected machines and period are in them.
        """


def open_storage(place: str | Path) -> Storage:
    """Return the storage in a file, a folder or at a URL. Errors of reading it are raised when it is read.

    Raises:
        RunFileError: If a URL is not valid.
        CnnperfError: If a package for a dataset is not installed.
    """
    if isinstance(place, str) and place.startswith(_LOCAL):
        place = url2pathname(f"/{place.removeprefix(_LOCAL)}")
    if is_dataset(place):
        from cnnperf.runs.fleet.dataset import Dataset

        return Dataset.at(place)
    return Folder(Path(place))


def read_series(place: str | Path, metric: str, pattern: str = "*", selection: Selection | None = None) -> list[Series]:
    """Return the series of a metric, or of the metrics of a common name, over saved runs.

    Args:
        place: A file, a folder or a URL.
        metric: Name of a metric, or of several such as `ratio`.
        pattern: Glob over architectures or labels of cases.
        selection: Machines and period; None for all.

    Raises:
        RunFileError: If there are no runs, or none has the metric for a matching case.
    """
    return open_storage(place).series(metric, pattern, selection or Selection())
