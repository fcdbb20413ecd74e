"""Files that are written whole or not at all: what was there before stays until the new one is complete."""

from __future__ import annotations

from pathlib import Path

from cnnperf.errors import CnnperfError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place and move it there; folders above it are made.

    Raises:
        CnnperfError: If it cannot be written; an older file of that name is untouched.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(content if isinstance(content, bytes) else content.encode())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise CnnperfError(f"{path}: cannot be written: {error.strerror or error}") from error


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
