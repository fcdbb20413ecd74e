"""Atomic writing of files: an existing file stays intact until its replacement is complete."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cnnperf.errors import CnnperfError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it; create missing parent directories.

    A symbolic link is kept and its target replaced. An existing file keeps its mode. A device or pipe is written
    directly.

    Raises:
        CnnperfError: If the file cannot be written; an existing file is then unchanged.
    """
    data = content if isinstance(content, bytes) else content.encode()
    try:
        if not path.name or path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; give the path of a file")
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            _replace(path.resolve(), data)
    except OSError as error:
        raise CnnperfError(f"{path}: cannot be written: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        unfinished.write_bytes(data)
        if path.exists():
            unfinished.chmod(path.stat().st_mode)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def append(path: Path, content: str) -> None:
    """Append to a file, such as the step summary of a CI job.

    Raises:
        CnnperfError: If the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise CnnperfError(f"{path}: cannot be written: {error.strerror or error}") from error
