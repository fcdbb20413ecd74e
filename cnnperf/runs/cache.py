"""The cache of a folder's frame: Parquet beside the run files, refreshed file by file.

It holds what the files say and nothing else. A file is known by its size and the time of its last change; what is new
or changed is read anew, what is gone is dropped. A cache that cannot be read or written is done without.
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

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".cnnperf-cache"
_VERSION = f"2.{SCHEMA}"
_FILE = "file"
_KEY = b"cnnperf"

State = Mapping[str, Sequence[int]]
"""Size and time of the last change in nanoseconds, by the file's path below the folder."""


def cached_frame(
    folder: Path, files: Sequence[Path], read: Callable[[Sequence[Path]], pd.DataFrame]
) -> pd.DataFrame | None:
    """Return the frame of a folder, reading only what the cache does not hold.

    Args:
        folder: Above all files.
        files: Of runs, in order.
        read: Returns the frame of some files, whose column `run` names each by its path below the folder.

    Returns:
        The frame with such names, in the order of the files; None where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        return None
    now = {str(file.relative_to(folder)): _state(file) for file in files}
    before, kept = _load(folder)
    known = {name for name, state in now.items() if before.get(name) == state}
    fresh = [file for file in files if str(file.relative_to(folder)) not in known]
    tables = [] if kept is None else [_only(kept, known)]
    frame = read(fresh)
    tables.append(pa.Table.from_pandas(frame, preserve_index=False))
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    saved = _remembered(table, now)
    if saved != before:
        _save(folder, _only(table, set(saved)), saved)
    whole = frame if kept is None else table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return _ordered(whole, list(now), frame.dtypes)


def _remembered(table: pa.Table, files: State) -> State:
    """Leave out files that reading warns of, so that it does so each time: those that are no runs, and journals."""
    import pyarrow as pa
    from pyarrow import compute

    runs = set(compute.unique(table["run"].cast(pa.string())).to_pylist())
    return {name: state for name, state in files.items() if name in runs and not name.endswith(JOURNAL_SUFFIX)}


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _load(folder: Path) -> tuple[State, pa.Table | None]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(folder / FOLDER / "frame.parquet")
        written = json.loads((table.schema.metadata or {})[_KEY])
        current = written["version"] == _VERSION and "run" in table.column_names
        return (dict(written["files"]), table) if current else ({}, None)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):  # not there yet, cut short, or not ours
        return {}, None


def _save(folder: Path, table: pa.Table, files: State) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    metadata = {_KEY: json.dumps({"version": _VERSION, "files": files}).encode()}
    sink = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    try:
        write_whole(folder / FOLDER / "frame.parquet", sink.getvalue().to_pybytes())
    except CnnperfError:  # a folder that may only be read, or a full disk: the next reading is as slow as this one
        return


def _only(table: pa.Table, names: set[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import compute

    runs = table["run"].cast(pa.string())
    return table.filter(compute.is_in(runs, value_set=pa.array(sorted(names), pa.string())))


def _ordered(frame: pd.DataFrame, names: Sequence[str], types: Any) -> pd.DataFrame:
    # Categories differ from frame to frame; what they are of does not.
    frame = frame.astype({name: "category" if str(kind) == "category" else kind for name, kind in types.items()})
    run = frame["run"].cat.remove_unused_categories().cat.set_categories(list(names))
    order = run.cat.codes.to_numpy().argsort(kind="stable")
    return frame.assign(run=run).iloc[order].reset_index(drop=True)
