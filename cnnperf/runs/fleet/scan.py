"""Columns and rows of a dataset's files, and what is wrong with a file that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cnnperf.errors import RunFileError
from cnnperf.records.case import AXIS_BY_NAME
from cnnperf.runs.fleet.layout import LAYOUT, SCHEMA, schema
from cnnperf.runs.fleet.location import Location

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.compute import Expression
    from pyarrow.dataset import Fragment, Scanner

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
        fragments = _fragments(location, files)
        _check_layout(location, fragments)
        table = _scanner(location, fragments, columns, rows).to_table()
    return table.select(list(columns)).unify_dictionaries().combine_chunks()


def _fragments(location: Location, files: Sequence[str]) -> list[Fragment]:
    from pyarrow import dataset

    source = dataset.dataset(list(files), schema=schema(), format="parquet", filesystem=location.filesystem)
    return list(source.get_fragments())


def _scanner(location: Location, fragments: list[Fragment], columns: Sequence[str], rows: Expression) -> Scanner:
    """Return what reads files whose footers are known by now."""
    from pyarrow import dataset

    source = dataset.FileSystemDataset(fragments, schema(), dataset.ParquetFileFormat(), location.filesystem)
    return source.scanner(columns=list(columns), filter=rows, fragment_readahead=READERS)


@contextmanager
def _damage_told(location: Location, files: Sequence[str]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException):
        _each(files, lambda path: _check_file(location, path))
        with location.telling("cannot be read"):
            raise


def _check_layout(location: Location, fragments: Sequence[Fragment]) -> None:
    """Refuse a file of another layout, whichever of its rows are asked for: its footer tells."""
    with ThreadPoolExecutor(READERS) as readers:
        doubtful = readers.map(_may_be_of_another_layout, fragments)
        paths = [fragment.path for fragment, is_doubtful in zip(fragments, doubtful, strict=True) if is_doubtful]
    for path in paths:
        _check_file(location, path)


def _may_be_of_another_layout(fragment: Fragment) -> bool:
    """Tell whether a file's footer does not say that it is of a known layout."""
    metadata = fragment.metadata
    places = {metadata.schema.column(index).name: index for index in range(metadata.num_columns)}
    if not set(places) >= set(LAYOUT) or not metadata.num_row_groups:
        return True
    for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
        version, axes = (group.column(places[name]).statistics for name in LAYOUT)
        if version is None or axes is None or not (version.has_min_max and axes.has_min_max):
            return True
        newer = version.max > SCHEMA or version.null_count or axes.null_count or axes.min != axes.max
        if newer or not set(axes.max.split()) <= set(AXIS_BY_NAME):
            return True
    return False


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
