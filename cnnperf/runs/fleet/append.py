"""Appending runs to a dataset: each once and whole, with any number of writers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cnnperf.errors import RunFileError
from cnnperf.records.reading import Document, parse_document
from cnnperf.runs.fleet.layout import digest_of, name_of, path_of, table_of
from cnnperf.runs.fleet.location import MARK, Location

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = 8
"""Runs written at once: a store answers in tens of milliseconds."""

UNFINISHED = ".unfinished"
"""Suffix of a file that is being written; readers of Parquet ignore it."""

_AT_ONCE = 64  # documents in memory


def append_runs(documents: Iterable[tuple[str, Document]], location: Location) -> Iterator[bool]:
    """Append runs.

    Each run is a file whose name is the digest of its content. Writers therefore share nothing, and a run that exists
    already is not written again.

    Args:
        documents: Names and documents of runs.
        location: Location of the dataset, which need not exist yet.

    Yields:
        For each run whether it was appended; False for one that existed already.

    Raises:
        RunFileError: If the location cannot be written to or is not a dataset, or a document is damaged. Runs that
            were yielded have been appended.
    """
    check_place(location)
    remaining = iter(documents)
    with ThreadPoolExecutor(WRITERS) as writers:
        while batch := list(islice(remaining, _AT_ONCE)):
            yield from writers.map(lambda named: _append(location, *named), batch)


def check_place(location: Location) -> None:
    """Refuse a folder with other content, whose run files a dataset would hide.

    Raises:
        RunFileError: If it has other content, is not a folder, or cannot be read.
    """
    from pyarrow.fs import LocalFileSystem

    if not isinstance(location.filesystem, LocalFileSystem):
        return
    root = Path(location.root)
    with location.telling("cannot be written to"):
        names = sorted(path.name for path in root.iterdir()) if root.exists() else []
    if names and not any(name.startswith(MARK) for name in names):
        raise RunFileError(
            f"{location.text}: not a dataset, it holds other things ({names[0]}); name a new or an empty folder"
        )


def _append(location: Location, name: str, document: Document) -> bool:
    from pyarrow.fs import FileType

    try:
        run = parse_document(document)
    except RunFileError as error:
        raise RunFileError(f"{name}: {error}") from error
    digest = digest_of(document)
    path = f"{location.root}/{path_of(digest, run)}"
    with location.telling("cannot be written to"):
        if location.filesystem.get_file_info(path).type != FileType.NotFound:
            return False
    content = _parquet(table_of(name_of(digest, name), run, document))
    with location.telling("cannot be written to"):
        (_put if location.puts else _rename)(location, path, content)
    return True


def _parquet(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _put(location: Location, path: str, content: pa.Buffer) -> None:
    with location.filesystem.open_output_stream(path, compression=None) as file:
        file.write(content)


def _rename(location: Location, path: str, content: pa.Buffer) -> None:
    """Write to a temporary file and rename it, so that no reader sees a part; a file left by a crash does no harm."""
    folder, _, file = path.rpartition("/")
    unfinished = f"{folder}/.{file}.{uuid.uuid4().hex}{UNFINISHED}"
    location.filesystem.create_dir(folder, recursive=True)
    try:
        _put(location, unfinished, content)
        _flush(location, unfinished)
        location.filesystem.move(unfinished, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            location.filesystem.delete_file(unfinished)
        raise


def _flush(location: Location, path: str) -> None:
    """Flush a local file to the disk before it gets its name: a power cut must not leave an empty file of that name."""
    from pyarrow.fs import LocalFileSystem

    if isinstance(location.filesystem, LocalFileSystem):
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
