"""Reading of saved runs as records and frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import RunFileError
from cnnperf.records.run import Run
from cnnperf.runs.selection import Time, Where, parse_selection
from cnnperf.runs.storage import open_storage

if TYPE_CHECKING:
    import pandas as pd


def read_runs(path: str | Path) -> list[tuple[str, Run]]:
    """Read saved runs as plain records, each with its name; path, errors and warnings are those of `load_runs`.

    Files that only other suites wrote are skipped.
    """
    return open_storage(path).runs()


def load_runs(
    path: str | Path, *, where: Where | None = None, since: Time | None = None, until: Time | None = None
) -> pd.DataFrame:
    """Read saved runs into the tidy frame: one row per run, case and metric.

    With pyarrow (the extra `history`), the frame of a folder of many runs is kept in `.cnnperf-cache` below it, and
    only new and changed files are read. Of a fleet's dataset only the selected rows are read.

    Args:
        path: A run file, the journal of an interrupted run, a directory that is searched recursively for both, or the
            folder or URL of a dataset that `cnnperf export --parquet` made.
        where: A value or several by column: run, commit, machine, test, an axis, metric or unit.
        since: Earliest time, such as `2026-01-31`, in UTC without a time zone.
        until: End of the period, excluded.

    Returns:
        A frame with the columns run, time, commit, machine, test, architecture, phase, device, engine, precision,
        layout, batch, image_size, width, threads, world_size, metric, value, low, high, rounds, unit and reason.
        Values are in SI units. `run` is the stem of the file, with as many parent folders as make it unique; in a
        dataset, which is in the order of time, it follows a digest. A case that was not measured is one row with the
        metric `latency`, the value NaN and its reason. A benchmark of another suite is one row with the metric
        `latency`, the name of its test and no axes. Where nothing is selected, there are no rows.

    Raises:
        OptionError: If the selection is not valid.
        RunFileError: If the path does not exist or has no run, or all files are damaged or from a newer version.
        CnnperfError: If a package that a dataset needs is not installed.

    Warns:
        UserWarning: For a JSON file in a directory that is not a run file, and for a truncated last line of a journal.
        DamagedRunWarning: For a damaged file beside sound ones, which is left out.
    """
    return open_storage(path).frame(parse_selection(where, since, until))


def load_samples(path: str | Path) -> pd.DataFrame:
    """Read the raw rounds of run files: one row per timed call.

    Args:
        path: As for `load_runs`.

    Returns:
        A frame with the columns run, architecture, phase, device, engine, precision, layout, batch, image_size, width,
        threads, world_size, group (from 0, one for each memory placement), round (from 0 within its group), seconds,
        block (name of the block; empty for a case that was measured alone) and cycle (from 0 within its block; missing
        without a block). The rounds of one run, block and cycle were taken side by side.

    Raises:
        RunFileError: As for `load_runs`, and if no run was saved with its raw rounds.

    Warns:
        UserWarning: As for `load_runs`.
    """
    from cnnperf.runs.samples import samples_of_runs

    samples = samples_of_runs(read_runs(path))
    if samples.empty:
        raise RunFileError(
            f"no raw rounds in {path}; run `pytest benchmarks --benchmark-autosave --benchmark-save-data`"
        )
    return samples
