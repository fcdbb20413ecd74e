"""Run files on disk and the names of their runs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.records.files import printable
from cnnperf.records.layout import JOURNAL_SUFFIX

DEFAULT_STORAGE = ".benchmarks"
"""Folder in which pytest-benchmark saves runs by default; the only hidden folder that is searched."""

PATTERNS = ("*.json", f"*{JOURNAL_SUFFIX}")


def find_files(path: Path) -> list[Path]:
    """Return the file itself, or all possible run files below a directory, in the order of their paths.

    Raises:
        RunFileError: If the path does not exist or cannot be read, or there is no such file below it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RunFileError(f"{path}: no such file or directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise RunFileError(f"{path}: the folder cannot be read; its permissions forbid it")
    found = (file for pattern in PATTERNS for file in path.rglob(pattern) if not _is_hidden(file.relative_to(path)))
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise no_runs(path)
    return files


def no_runs(path: str | Path) -> RunFileError:
    """Return the error about a place without runs, with the command that makes one."""
    return RunFileError(f"no runs in {path}; run `pytest benchmarks --benchmark-autosave` first")


def run_names(files: list[Path]) -> dict[Path, str]:
    """Name each run after the stem of its file, with as many parent folders as make the name unique.

    Two storage folders may both hold `0001_baseline.json`; their rows must not be taken for those of one run.
    """
    parts = {file: _parts(file) for file in files}
    names: dict[Path, str] = {}
    count = 0
    while unnamed := [file for file in files if file not in names]:
        count += 1
        frequencies = Counter(own[-count:] for own in parts.values())
        for file in unnamed:
            if frequencies[parts[file][-count:]] == 1 or count >= len(parts[file]):
                names[file] = "/".join(parts[file][-count:])
    return {file: names[file] for file in files}


def _is_hidden(path: Path) -> bool:
    """Return whether a file is a hidden copy, as those of editors, notebooks and macOS (`._NAME`), and no run."""
    return any(part.startswith(".") and part != DEFAULT_STORAGE for part in path.parts)


def _parts(file: Path) -> tuple[str, ...]:
    stem = file.name.removesuffix(JOURNAL_SUFFIX).removesuffix(".json")
    return tuple(printable(part) for part in (*file.parent.parts, stem))
