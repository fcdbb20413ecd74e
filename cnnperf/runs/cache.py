"""The cache of a folder's frame: a Parquet file beside the run files, refreshed file by file.

A file is identified by its size and the time of its last change. New and changed files are read, rows of deleted files
are dropped. Without access to the cache, all files are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cnnperf.errors import CnnperfError
from cnnperf.output import write_whole
from cnnperf.records.layout import JOURNAL_SUFFIX, SCHEMA
from cnnperf.runs.columns import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".cnnperf-cache"
_VERSION = f"2.{SCHEMA}"
_FILE = "file"
_KEY = b"cnnperf"

State = Mapping[str, Sequence[int]]
"""Size in bytes and time of the last change in nanoseconds, by the file's path below the folder."""


def cached_frame(
    folder: Path, files: Sequence[Path], read: Callable[[Sequence[Path]], pd.DataFrame]
) -> pd.DataFrame | None:
    """Return the frame of a folder, reading only the files that are not in the cache.

    Args:
        folder: Folder above all files.
        files: Run files, in order.
        read: Function that returns the frame of some files; its column `run` has their paths below the folder.

    Returns:
        The frame with such a column, in the order of the files; None where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        return None
    now = {str(file.relative_to(folder)): _state(file) for file in files}
    before, cached = _load(folder)
    known = {name for name, state in now.items() if before.get(name) == state}
    fresh = [file for file in files if str(file.relative_to(folder)) not in known]
    tables = [] if cached is None else [_only(cached, known)]
    frame = read(fresh)
    tables.append(pa.Table.from_pandas(frame, preserve_index=False))
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    saved = _remembered(table, now)
    if saved != before:
        _save(folder, _only(table, set(saved)), saved)
    whole = frame if cached is None else table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return _ordered(whole, list(now), frame.dtypes)


def _remembered(table: pa.Table, files: State) -> State:
    """Leave out files that reading warns of, so that it warns each time: files that are not runs, and journals."""
    import pyarrow as pa
    from pyarrow import compute

    runs = set(compute.unique(table["run"].cast(pa.string())).to_pylist())
    return {name: state for name, state in files.items() if name in runs and not name.endswith(JOURNAL_SUFFIX)}


def _state(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _load(folder: Path) -> tuple[State, pa.Table | None]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(folder / FOLDER / "frame.parquet")
        written = json.loads((table.schema.metadata or {})[_KEY])
        current = written["version"] == _VERSION and table.column_names == list(COLUMNS)
        return (dict(written["files"]), table) if current else ({}, None)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):  # missing, truncated or foreign
        return {}, None


def _save(folder: Path, table: pa.Table, files: State) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    metadata = {_KEY: json.dumps({"version": _VERSION, "files": files}).encode()}
    sink = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    try:
        write_whole(folder / FOLDER / "frame.parquet", sink.getvalue().to_pybytes())
    except CnnperfError:  # read-only folder or full disk: the next reading is as slow as this one
        return


def _only(table: pa.Table, names: set[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import compute

    runs = table["run"].cast(pa.string())
    return table.filter(compute.is_in(runs, value_set=pa.array(sorted(names), pa.string())))


def _ordered(frame: pd.DataFrame, names: Sequence[str], types: Any) -> pd.DataFrame:
    # The categories of frames differ, but not the type of a category.
    frame = frame.astype({name: "category" if str(kind) == "category" else kind for name, kind in types.items()})
    run = frame["run"].cat.remove_unused_categories().cat.set_categories(list(names))
    order = run.cat.codes.to_numpy().argsort(kind="stable")
    return frame.assign(run=run).iloc[order].reset_index(drop=True)
