"""A run file or a folder of run files as a storage of runs."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import DamagedRunWarning, RunFileError
from cnnperf.records.files import read_document, read_run
from cnnperf.records.layout import JOURNAL_SUFFIX
from cnnperf.records.reading import Document, parse_document
from cnnperf.records.run import Head, Run
from cnnperf.runs.files import find_files, no_runs, run_names
from cnnperf.runs.selection import Selection, none_selected

if TYPE_CHECKING:
    import pandas as pd

    from cnnperf.runs.series import Series

LEAST_FILES = 50
"""Least number of files of a folder whose frame is cached; fewer are read as fast without a cache."""


@contextmanager
def _without_collection() -> Iterator[None]:
    """Suspend cyclic garbage collection: records have no cycles, and searching many of them takes time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Folder:
    """Run file or folder of them. Errors and warnings are those of `cnnperf.load_runs`."""

    def __init__(self, path: Path) -> None:
        """Take the path of a run file, of a journal, or of a directory that is searched recursively for both."""
        self._path = path

    @_without_collection()
    def frame(self, selection: Selection) -> pd.DataFrame:
        """Return the tidy frame of the selected rows, in the order of the files."""
        from cnnperf.runs.frame import frame_of_runs

        files = find_files(self._path)
        names = run_names(files)
        frame = _cached(self._path, files, names) if self._path.is_dir() and len(files) >= LEAST_FILES else None
        if frame is None:
            runs = _read_files(files, names, alone=self._path)
            first = next(runs, None)
            if first is None:
                raise no_runs(self._path)
            frame = frame_of_runs(chain([first], runs))
        return selection.rows(frame)

    @_without_collection()
    def heads(self, latest: int | None = None) -> list[tuple[str, Head]]:  # noqa: ARG002 - all files are read anyway
        """Return the heads of the runs of cnnperf, in the order of the files."""
        return [(name, run.head()) for name, run in self._ours()]

    def runs(self, names: Sequence[str] | None = None) -> list[tuple[str, Run]]:
        """Return some runs of cnnperf, or all; files that only other suites wrote are skipped."""
        return list(self._ours(names))

    def documents(
        self, names: Sequence[str] | None = None, damaged: Callable[[RunFileError], None] | None = None
    ) -> Iterator[tuple[str, Document]]:
        """Yield the documents of the named runs, or of all, including those of other suites.

        A journal is only read by its name or path: its run may still go on, and would be another run at its end.
        """
        for file, name in run_names(find_files(self._path)).items():
            journal = file.name.endswith(JOURNAL_SUFFIX) and file != self._path
            if name in names if names is not None else not journal:
                yield from self._document(file, name, damaged)

    def _document(
        self, file: Path, name: str, damaged: Callable[[RunFileError], None] | None
    ) -> Iterator[tuple[str, Document]]:
        """Yield the document of a file with its name; nothing where it is not a run."""
        try:
            document = read_document(file)
            if document is None:
                _refuse(file, alone=file == self._path)
            else:
                parse_document(document)
        except RunFileError as error:
            if damaged is None:
                raise
            damaged(error if str(file) in str(error) else RunFileError(f"{file}: {error}"))
            return
        if document is not None:
            yield name, document

    @_without_collection()
    def series(self, metric: str, pattern: str, selection: Selection) -> list[Series]:
        """Return the series of a metric, as `series_of` does."""
        from cnnperf.runs.series import series_of

        selected = (named for named in self._ours() if selection.means(named[1]))
        first = next(selected, None)
        if first is None:
            raise none_selected(pattern, metric, self.runs()[-1][1].machine)
        return series_of(chain([first], selected), metric, pattern)

    def _ours(self, names: Sequence[str] | None = None) -> Iterator[tuple[str, Run]]:
        """Yield the runs of cnnperf one by one: keeping all of them takes longer than reading them again.

        Raises:
            RunFileError: If there is none.
        """
        by_file = run_names(find_files(self._path))
        files = [file for file, name in by_file.items() if names is None or name in names]
        empty = names is None
        for named in _read_files(files, by_file, alone=self._path):
            if named[1].ours:
                empty = False
                yield named
        if empty:
            raise no_runs(self._path)


def _cached(path: Path, files: Sequence[Path], names: Mapping[Path, str]) -> pd.DataFrame | None:
    from cnnperf.runs.cache import cached_frame
    from cnnperf.runs.frame import frame_of_runs

    below = {file: str(file.relative_to(path)) for file in files}
    frame = cached_frame(path, files, lambda fresh: frame_of_runs(_read_files(fresh, below, path, others=True)))
    if frame is None:
        return None
    used = frame["run"].cat.remove_unused_categories()
    return frame.assign(run=used.cat.rename_categories({below[file]: names[file] for file in files}))


def _read_files(
    files: Sequence[Path], names: Mapping[Path, str], alone: Path, *, others: bool = False
) -> Iterator[tuple[str, Run]]:
    """Yield the runs of files with their names; a damaged file is left out with a warning.

    Args:
        files: The files.
        names: Name of the run of each file.
        alone: Path that the user gave. If it is a file, not being a sound run file is an error.
        others: Whether there are runs beside these files. Without any, the first damaged file is an error.
    """
    damaged: list[RunFileError] = []
    for file in files:
        try:
            run = _read_file(file, alone=file == alone)
        except RunFileError as error:
            if file == alone:
                raise
            damaged.append(error)
            continue
        if run is not None:
            others = True
            yield names[file], run
    if damaged and not others:
        raise damaged[0]
    for reason in damaged:
        warnings.warn(f"left out: {reason}", DamagedRunWarning, stacklevel=8)


def _read_file(file: Path, *, alone: bool) -> Run | None:
    run = read_run(file)
    if run is None:
        _refuse(file, alone=alone)
    return run


def _refuse(file: Path, *, alone: bool) -> None:
    if alone:
        raise RunFileError(f"{file}: not a run file; those are written by `pytest benchmarks --benchmark-autosave`")
    warnings.warn(f"{file}: skipped, not a run file", stacklevel=8)
