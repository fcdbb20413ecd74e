"""Run files on disk: which files there are, and the names of their runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.records.files import printable
from cnnperf.records.layout import JOURNAL_SUFFIX

PATTERNS = ("*.json", f"*{JOURNAL_SUFFIX}")


def find_files(path: Path) -> list[Path]:
    """Return the file itself, or all files below a directory that may be run files, in the order of their paths.

    Raises:
        RunFileError: If there is nothing at the path, or nothing to read below it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RunFileError(f"{path}: no such file or directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise RunFileError(f"{path}: the folder cannot be read; its permissions forbid it")
    found = sorted(file for pattern in PATTERNS for file in path.rglob(pattern) if file.is_file())
    if not found:
        raise no_runs(path)
    return found


def no_runs(path: str | Path) -> RunFileError:
    """Return the error that tells how to make a run."""
    return RunFileError(f"no runs in {path}; run `pytest benchmarks --benchmark-autosave` first")


def run_names(files: list[Path]) -> dict[Path, str]:
    """Name each run after its file's stem, and after its path as far as needed where stems are equal.

    Two storage folders may both hold `0001_baseline.json`; their rows must not pass for one run's.
    """
    names = {file: _parts(file) for file in files}
    return {file: "/".join(parts[-_needed(parts, names) :]) for file, parts in names.items()}


def _parts(file: Path) -> tuple[str, ...]:
    stem = file.name.removesuffix(JOURNAL_SUFFIX).removesuffix(".json")
    return tuple(printable(part) for part in (*file.parent.parts, stem))


def _needed(parts: tuple[str, ...], names: Mapping[Path, tuple[str, ...]]) -> int:
    """Return how many trailing parts tell this file from all others."""
    for count in range(1, len(parts)):
        if sum(other[-count:] == parts[-count:] for other in names.values()) == 1:
            return count
    return len(parts)
