"""Where runs are saved: a folder of run files, or a fleet's dataset. Both answer the same questions."""

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
    """A place where runs are saved. Names of runs are those that the column `run` has."""

    def frame(self, selection: Selection) -> pd.DataFrame:
        """Return the tidy frame of what is selected."""

    def heads(self, latest: int | None = None) -> list[tuple[str, Head]]:
        """Return what tells the runs of cnnperf from each other: of all, or of at least so many of the latest."""

    def runs(self, names: Sequence[str] | None = None) -> list[tuple[str, Run]]:
        """Return some runs of cnnperf, or all."""

    def documents(
        self, names: Sequence[str] | None = None, damaged: Callable[[RunFileError], None] | None = None
    ) -> Iterator[tuple[str, Document]]:
        """Yield the run files of some runs, or of all; `damaged` is told of a damaged one, which else ends it."""

    def series(self, metric: str, pattern: str, selection: Selection) -> list[Series]:
        """Return the series of a metric for the cases that a glob means, over the machines and time of a selection."""


def open_storage(place: str | Path) -> Storage:
    """Return the storage in a file, a folder or at a URL; that it cannot be read is told when it is asked.

    Raises:
        RunFileError: If a URL cannot be understood.
        CnnperfError: If a package for a dataset is not installed.
    """
    if isinstance(place, str) and place.startswith(_LOCAL):
        place = url2pathname(f"/{place.removeprefix(_LOCAL)}")
    if is_dataset(place):
        from cnnperf.runs.fleet.dataset import Dataset

        return Dataset.at(place)
    return Folder(Path(place))


def read_series(place: str | Path, metric: str, pattern: str = "*", selection: Selection | None = None) -> list[Series]:
    """Return the series of a metric over saved runs.

    Args:
        place: A file, a folder or a URL.
        metric: Of the table of metrics.
        pattern: A glob over architectures or labels of cases.
        selection: Machines and time; any where it is None.

    Raises:
        RunFileError: If there are no runs, or none has the metric for a case that fits.
    """
    return open_storage(place).series(metric, pattern, selection or Selection())
