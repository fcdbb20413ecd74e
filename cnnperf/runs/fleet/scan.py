"""Reading of columns and rows of a dataset, with errors about damaged files."""

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
"""Files read in parallel: a store answers in tens of milliseconds."""

AT_ONCE = 256
"""Files opened together: pyarrow keeps a tenth of a MiB of each, in all more than the result."""

DOCUMENTS_AT_ONCE = 32
"""Documents in memory as text: each has some hundred KiB, and more with many raw rounds."""


def read_table(location: Location, files: Sequence[str], columns: Sequence[str], rows: Expression) -> pa.Table:
    """Return columns of the rows that meet a condition.

    Args:
        location: Location of the dataset.
        files: Paths of the files.
        columns: Names of the columns; one that a file lacks is null.
        rows: Condition, over any columns.

    Raises:
        RunFileError: If a file cannot be read, is cut short, or was written by a newer version.
    """
    import pyarrow as pa

    wanted = pa.schema([schema().field(name) for name in columns])
    tables = [_read_some(location, some, columns, rows) for some in _parts(files, AT_ONCE)]
    return pa.concat_tables([wanted.empty_table(), *tables]).unify_dictionaries()


def read_documents(location: Location, files: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and the document of each run as text; few documents are in memory at once.

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
    with _damage_reported(location, files):
        fragments = _fragments(location, files)
        _check_layout(location, fragments)
        table = _scanner(location, fragments, columns, rows).to_table()
    return table.select(list(columns)).unify_dictionaries().combine_chunks()


def _fragments(location: Location, files: Sequence[str]) -> list[Fragment]:
    from pyarrow import dataset

    source = dataset.dataset(list(files), schema=schema(), format="parquet", filesystem=location.filesystem)
    return list(source.get_fragments())


def _scanner(location: Location, fragments: list[Fragment], columns: Sequence[str], rows: Expression) -> Scanner:
    """Return a scanner of files whose footers have been read."""
    from pyarrow import dataset

    source = dataset.FileSystemDataset(fragments, schema(), dataset.ParquetFileFormat(), location.filesystem)
    return source.scanner(columns=list(columns), filter=rows, fragment_readahead=READERS)


@contextmanager
def _damage_reported(location: Location, files: Sequence[str]) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException):
        _each(files, lambda path: _check_file(location, path))
        with location.telling("cannot be read"):
            raise


def _check_layout(location: Location, fragments: Sequence[Fragment]) -> None:
    """Refuse a file of another layout, whichever of its rows are needed; its footer shows the layout."""
    with ThreadPoolExecutor(READERS) as readers:
        doubtful = readers.map(_may_be_of_another_layout, fragments)
        paths = [fragment.path for fragment, is_doubtful in zip(fragments, doubtful, strict=True) if is_doubtful]
    for path in paths:
        _check_file(location, path)


def _may_be_of_another_layout(fragment: Fragment) -> bool:
    """Return whether the footer of a file does not prove that its layout is known."""
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
        readers.shutdown(cancel_futures=True)  # the first error is enough


def _check_file(location: Location, path: str) -> None:
    """Check one file by itself.

    Raises:
        RunFileError: If it is truncated, has another layout, or is of a newer version.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with location.telling(f"{path} cannot be read"):
        source = location.filesystem.open_input_file(path)
    try:
        with source:
            file = parquet.ParquetFile(source)
            layout = file.read(columns=[name for name in LAYOUT if name in file.schema_arrow.names])
            whole = layout if _problem(layout) else file.read()
    except (OSError, pa.ArrowException) as error:  # pyarrow raises OSError for damaged pages
        raise RunFileError(f"{path}: cut short, or no Parquet file; move it away, and export its run again") from error
    if problem := _problem(whole):
        raise RunFileError(f"{path}: {problem}")


def _problem(table: pa.Table | pa.RecordBatch) -> str:
    """Return why rows cannot be read, with the remedy; empty where they can."""
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
