"""Run files to frames: what `cnnperf.load_runs` and `cnnperf.load_samples` do."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from cnnperf.errors import RunFileError
from cnnperf.runs.document import parse_document
from cnnperf.runs.files import find_files, no_runs, read_document, run_names
from cnnperf.runs.frame import frame_of_runs
from cnnperf.runs.records import Run
from cnnperf.runs.samples import samples_of_runs


def read_runs(path: str | Path) -> list[tuple[str, Run]]:
    """Read run files as plain records, each with its name; the arguments, errors and warnings of `load_runs`."""
    path = Path(path)
    files = find_files(path)
    names = run_names(files)
    read = [(names[file], _read_file(file, alone=file == path)) for file in files]
    runs = [(name, run) for name, run in read if run is not None and run.ours]
    if not runs:
        raise no_runs(path)
    return runs


def load_runs(path: str | Path) -> pd.DataFrame:
    """Read run files into the tidy frame: one row a run, case and metric.

    Args:
        path: A run file, the journal of an interrupted run, or a directory that is searched recursively for both.

    Returns:
        A frame with the columns run, time, commit, machine, architecture, phase, device, engine, precision, layout,
        batch, image_size, metric, value, low, high, rounds, unit and reason. Values are in SI units. `run` is the
        file's stem (with as much of its path as tells it from a file with the same stem). A case that was not measured
        is one row with the metric `latency`, the value NaN and its reason.

    Raises:
        RunFileError: If there is nothing at the path or no run in it, or a file is damaged or from a newer version.

    Warns:
        UserWarning: For each JSON file in a directory that is not a run file, and for a journal's cut last line.
    """
    return frame_of_runs(read_runs(path))


def load_samples(path: str | Path) -> pd.DataFrame:
    """Read the raw rounds of run files: one row a timed call.

    Args:
        path: As for `load_runs`.

    Returns:
        A frame with the columns run, architecture, phase, device, engine, precision, layout, batch, image_size, group
        (from 0, one for each memory placement), round (from 0 within its group) and seconds.

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


def _read_file(file: Path, *, alone: bool) -> Run | None:
    document = read_document(file)
    if document is None:
        if alone:
            raise RunFileError(f"{file}: not a run file; those are written by `pytest benchmarks --benchmark-autosave`")
        warnings.warn(f"{file}: skipped, not a run file", stacklevel=4)
        return None
    try:
        return parse_document(document)
    except RunFileError as error:
        raise RunFileError(f"{file}: {error}") from error
