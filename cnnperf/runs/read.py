"""Run files to frames: what `cnnperf.load_runs` and `cnnperf.load_samples` do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cnnperf.errors import RunFileError
from cnnperf.runs.cache import LEAST_FILES, cached_frame
from cnnperf.runs.document import parse_document
from cnnperf.runs.files import find_files, no_runs, read_document, run_names
from cnnperf.runs.frame import frame_of_runs
from cnnperf.runs.records import Run
from cnnperf.runs.samples import samples_of_runs


def read_runs(path: str | Path) -> list[tuple[str, Run]]:
    """Read run files as plain records, each with its name; the arguments, errors and warnings of `load_runs`.

    Files in which other suites alone wrote are passed over.
    """
    path = Path(path)
    files = find_files(path)
    runs = [(name, run) for name, run in _read_files(files, run_names(files), alone=path) if run.ours]
    if not runs:
        raise no_runs(path)
    return runs


def load_runs(path: str | Path) -> pd.DataFrame:
    """Read run files into the tidy frame: one row a run, case and metric.

    With pyarrow (the extra `history`), the frame of a folder of many runs is kept in `.cnnperf-cache` below it, and
    only files that are new or changed are read.

    Args:
        path: A run file, the journal of an interrupted run, or a directory that is searched recursively for both.

    Returns:
        A frame with the columns run, time, commit, machine, test, architecture, phase, device, engine, precision,
        layout, batch, image_size, width, threads, world_size, metric, value, low, high, rounds, unit and reason.
        Values are in SI units. `run` is the file's stem (with as much of its path as tells it from a file with the
        same stem). A case that was not measured is one row with the metric `latency`, the value NaN and its reason. A
        benchmark of another suite is one row with the metric `latency`, the name of its test and no axes.

    Raises:
        RunFileError: If there is nothing at the path or no run in it, or a file is damaged or from a newer version.

    Warns:
        UserWarning: For each JSON file in a directory that is not a run file, and for a journal's cut last line.
    """
    path = Path(path)
    files = find_files(path)
    names = run_names(files)
    frame = _cached(path, files, names) if path.is_dir() and len(files) >= LEAST_FILES else None
    if frame is None:
        runs = _read_files(files, names, alone=path)
        frame = frame_of_runs(runs) if runs else pd.DataFrame()
    if not len(frame.columns):
        raise no_runs(path)
    return frame


def _cached(path: Path, files: Sequence[Path], names: Mapping[Path, str]) -> pd.DataFrame | None:
    below = {file: str(file.relative_to(path)) for file in files}
    frame = cached_frame(path, files, lambda some: frame_of_runs(_read_files(some, below, alone=path)))
    if frame is None:
        return None
    used = frame["run"].cat.remove_unused_categories()
    return frame.assign(run=used.cat.rename_categories({below[file]: names[file] for file in files}))


def load_samples(path: str | Path) -> pd.DataFrame:
    """Read the raw rounds of run files: one row a timed call.

    Args:
        path: As for `load_runs`.

    Returns:
        A frame with the columns run, architecture, phase, device, engine, precision, layout, batch, image_size, width,
        threads, world_size, group (from 0, one for each memory placement), round (from 0 within its group) and seconds.

    Raises:
        RunFileError: As for `load_runs`, and if no run was saved with its raw rounds.

    Warns:
        UserWarning: As for `load_runs`.
    """
    samples = samples_of_runs(read_runs(path))
    if samples.empty:
        raise RunFileError(
            f"no raw rounds in {path}; run `pytest benchmarks --benchmark-autosave --benchmark-save-data`"
        )
    return samples


def _read_files(files: Sequence[Path], names: Mapping[Path, str], alone: Path) -> list[tuple[str, Run]]:
    """Return the runs of files with their names; `alone` is a file that was asked for by itself."""
    read = [(names[file], _read_file(file, alone=file == alone)) for file in files]
    return [(name, run) for name, run in read if run is not None]


def _read_file(file: Path, *, alone: bool) -> Run | None:
    document = read_document(file)
    if document is None:
        if alone:
            raise RunFileError(f"{file}: not a run file; those are written by `pytest benchmarks --benchmark-autosave`")
        warnings.warn(f"{file}: skipped, not a run file", stacklevel=5)
        return None
    try:
        return parse_document(document)
    except RunFileError as error:
        raise RunFileError(f"{file}: {error}") from error
