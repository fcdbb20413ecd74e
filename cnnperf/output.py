"""Files that are written whole or not at all: what was there before stays until the new one is complete."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cnnperf.errors import CnnperfError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there; folders above it are made.

    A link stays one, and a file keeps its mode. Into a device or a pipe there is nothing to move: it is written to.

    Raises:
        CnnperfError: If it cannot be written; an older file of that name is untouched.
    """
    data = content if isinstance(content, bytes) else content.encode()
    try:
        if not path.name or path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder, and a file is needed")
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
    """Append to a file, such as the summary of a step in CI.

    Raises:
        CnnperfError: If it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise CnnperfError(f"{path}: cannot be written: {error.strerror or error}") from error
