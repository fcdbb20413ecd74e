"""Run files as pytest-benchmark has them, written by commands that measure by themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_machine_id, get_tag

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.records.case import Case

Object = dict[str, Any]


def check_folder(folder: Path) -> None:
    """Make the folder, so that it is told before measuring where that fails.

    Raises:
        CnnperfError: If it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".cnnperf-can-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CnnperfError(f"{folder}: runs cannot be saved there: {error.strerror or error}") from error


def check_out(out: Path) -> None:
    """Check that a run file can be written where it was asked for.

    Raises:
        OptionError: If its name is none of a run file, or its folder is not there or cannot be written to.
    """
    if out.suffix != ".json" or out.is_dir():
        raise OptionError(f"--out takes a file that ends in .json, by which runs are found, not {out}")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OptionError(f"--out {out}: {out.parent} is no folder that can be written to; make it, or choose another")


def benchmark_entry(origin: str, case: Case, record: Mapping[str, Any], seconds: Iterable[float]) -> Object:
    """Return a case as it stands in a run file.

    Args:
        origin: What measured it, where pytest-benchmark has the path of the test.
        case: The case.
        record: For `extra_info`.
        seconds: Of all rounds.
    """
    stats, axes = Stats(), case.axes()
    for one in seconds:
        stats.update(one)
    return {
        "group": None,
        "name": case.id(),
        "fullname": f"{origin}::{case.id()}",
        "params": axes,
        "param": case.id(),
        "extra_info": dict(record),
        "stats": {**stats.as_dict(), "data": stats.data},
    }


def numbered_path(storage: Path) -> Path:
    """Return the path that `pytest --benchmark-autosave` would give the next run in a storage of runs."""
    folder = storage / str(get_machine_id())
    numbers = [int(file.name[:4]) for file in folder.glob("[0-9][0-9][0-9][0-9]_*.json")]
    return folder / f"{max(numbers, default=0) + 1:04}_{get_tag()}.json"


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a run file.

    Raises:
        CnnperfError: If it cannot be written; what was there before is still there.
    """
    unfinished = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(document), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CnnperfError(f"{path}: the run cannot be saved: {error.strerror or error}") from error
