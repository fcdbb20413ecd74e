"""Columns and rows of a dataset's files, and what is wrong with a file that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnnperf.errors import RunFileError
from cnnperf.measure.case import AXIS_BY_NAME
from cnnperf.runs.fleet.layout import LAYOUT, SCHEMA, schema
from cnnperf.runs.fleet.location import Location

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.compute import Expression
    from pyarrow.dataset import Scanner

READERS = 16
"""Files under way at once: a store answers in tens of milliseconds."""

AT_ONCE = 256
"""Files that are read together: what pyarrow keeps of each, a tenth of a MiB, would be more than the answer."""

DOCUMENTS_AT_ONCE = 32
"""Documents in memory as text: each is some hundred KiB, and more with many raw rounds."""


def read_table(location: Location, files: Sequence[str], columns: Sequence[str], rows: Expression) -> pa.Table:
    """Return columns of the rows that fit.

    Args:
        location: Of the dataset.
        files: Paths of those to look into.
        columns: Names; one that a file lacks is null.
        rows: Over any columns.

    Raises:
        RunFileError: If a file cannot be read, is cut short, or was written by a newer version.
    """
    import pyarrow as pa

    wanted = pa.schema([schema().field(name) for name in columns])
    tables = [_read_some(location, some, columns, rows) for some in _parts(files, AT_ONCE)]
    return pa.concat_tables([wanted.empty_table(), *tables]).unify_dictionaries()


def read_documents(location: Location, files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the document of each run as text, of which few are in memory at once.

    Raises:
        RunFileError: As `read_table` does.
    """
    from pyarrow import compute

    for some in _parts(files, DOCUMENTS_AT_ONCE):
        found = _read_some(location, some, ("run", "document"), compute.field("row") == 0)
        yield from zip(found["run"].to_pylist(), found["document"].to_pylist(), strict=True)


def _parts(files: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (files[first : first + size] for first in range(0, len(files), size))


def _read_some(location: Location, files: Sequence[str], columns: Sequence[str], rows: Expression) -> pa.Table:
    with _damage_told(location, files):
        table = _scanner(location, files, columns, rows).to_table()
    _check_layout(location, files, table)
    return table.select(list(columns)).unify_dictionaries().combine_chunks()


def _scanner(location: Location, files: Sequence[str], columns: Sequence[str], rows: Expression) -> Scanner:
    from pyarrow import dataset

    source = dataset.dataset(list(files), schema=schema(), format="parquet", filesystem=location.filesystem)
    names = list(dict.fromkeys((*columns, *LAYOUT)))
    return source.scanner(columns=names, filter=rows, fragment_readahead=READERS)


@contextmanager
def _damage_told(location: Location, files: Sequence[str]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException):
        _each(files, lambda path: _check_file(location, path))
        with location.telling("cannot be read"):
            raise


def _check_layout(location: Location, files: Sequence[str], found: pa.Table | pa.RecordBatch) -> None:
    """Refuse rows of another layout; only where there are some, their file is looked for."""
    if _problem(found):
        _each(files, lambda path: _check_file(location, path))


def _each(files: Sequence[str], check: Callable[[str], None]) -> None:
    readers = ThreadPoolExecutor(READERS)
    try:
        list(readers.map(check, files))
    finally:
        readers.shutdown(cancel_futures=True)  # the first answer is enough


def _check_file(location: Location, path: str) -> None:
    """Look at one file by itself.

    Raises:
        RunFileError: If it is cut short, no file of the layout, or of a newer version.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with location.telling(f"{path} cannot be read"):
        source = location.filesystem.open_input_file(path)
    try:
        with source:
            file = parquet.ParquetFile(source)
            said = file.read(columns=[name for name in LAYOUT if name in file.schema_arrow.names])
            whole = said if _problem(said) else file.read()
    except (OSError, pa.ArrowException) as error:  # of pages that do not unpack pyarrow says OSError
        raise RunFileError(f"{path}: cut short, or no Parquet file; move it away, and export its run again") from error
    if problem := _problem(whole):
        raise RunFileError(f"{path}: {problem}")


def _problem(table: pa.Table | pa.RecordBatch) -> str:
    """Return why rows are of no layout that can be read, and what to do; empty where they are of one."""
    from pyarrow import compute

    if not set(LAYOUT) <= set(table.schema.names):
        return "not a file that cnnperf wrote; move it away"
    versions, axes = (set(compute.unique(table[name]).to_pylist()) for name in LAYOUT)
    if None in versions | axes:
        return "not a file that cnnperf wrote; move it away"
    newer = max(versions, default=SCHEMA)
    if newer > SCHEMA:
        return f"written with layout {newer}, this version of cnnperf reads up to {SCHEMA}; upgrade cnnperf"
    unknown = sorted({name for names in axes for name in names.split()} - set(AXIS_BY_NAME))
    if unknown:
        return f"its cases have the axis {unknown[0]!r}, which this version of cnnperf does not know; upgrade cnnperf"
    return ""
