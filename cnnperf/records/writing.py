"""Records to run files: the one writer. The layout is that of pytest-benchmark, with `encoding`'s parts in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.output import write_whole
from cnnperf.records.encoding import Object, extra_info, facts_of
from cnnperf.records.layout import JOURNAL_KEY, JOURNAL_SCHEMA, JOURNAL_SUFFIX
from cnnperf.records.run import CaseRecord, ForeignRecord, NotMeasured, Run


def benchmark_entry(record: CaseRecord) -> Object:
    """Return the element of `benchmarks` for a case, statistics by pytest-benchmark included."""
    axes, name = record.case.axes(), record.case.id()
    return {
        "group": None,
        "name": record.test.rpartition("::")[2] or name,
        "fullname": record.test or name,
        "params": axes,
        "param": name,
        "extra_info": extra_info(record),
        "stats": _stats(chain.from_iterable(record.groups)),
    }


def document_of(run: Run) -> Object:
    """Return the document of a run file."""
    return {
        "machine_info": dict(run.machine_info),
        "commit_info": dict(run.commit_info),
        "benchmarks": [*map(benchmark_entry, run.cases), *map(_foreign, run.foreign)],
        **({} if run.time is None else {"datetime": run.time.isoformat()}),
        "version": "",
        **({"cnnperf": facts_of(run)} if run.ours else {}),
    }


def save_run(path: Path, run: Run) -> None:
    """Write a run file.

    Raises:
        CnnperfError: If it cannot be written; an earlier file at the path is still there.
    """
    save_document(path, document_of(run))


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document of a run file.

    Raises:
        CnnperfError: If it cannot be written; an earlier file at the path is still there.
    """
    write_whole(path, msgspec.json.encode(document))


class Journal:
    """A file that grows by one line a case at once, so that a crash loses none of them."""

    def __init__(self, folder: Path, run: Run) -> None:
        """Create the file, named after the time.

        Args:
            folder: Of the journal.
            run: The run before its first case.

        Raises:
            OSError: If the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self.path = folder / f"cnnperf-{stamp}{JOURNAL_SUFFIX}"
        head = document_of(run)
        del head["benchmarks"]
        self._append({JOURNAL_KEY: JOURNAL_SCHEMA, **head})

    def add(self, record: CaseRecord) -> None:
        """Append a finished case."""
        self._append(benchmark_entry(record))

    def skip(self, missing: NotMeasured) -> None:
        """Append the reason why a case was not measured."""
        self._append({"not_measured": missing})

    def close(self) -> None:
        """Delete the file: a saved run file holds everything."""
        self.path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")


def numbered_path(storage: Path) -> Path:
    """Return the path that `pytest --benchmark-autosave` would give the next run in a storage of runs."""
    from pytest_benchmark.utils import get_machine_id, get_tag

    folder = storage / str(get_machine_id())
    numbers = [int(file.name[:4]) for file in folder.glob("[0-9][0-9][0-9][0-9]_*.json")]
    return folder / f"{max(numbers, default=0) + 1:04}_{get_tag()}.json"


def check_folder(folder: Path) -> None:
    """Create a folder for runs, so that a failure is reported before measuring.

    Raises:
        CnnperfError: If it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".cnnperf-can-write"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CnnperfError(f"{folder}: runs cannot be saved there: {error.strerror or error}") from error


def check_out(out: Path) -> None:
    """Check that a run file can be written at a path.

    Raises:
        OptionError: If the name is not that of a run file, or its folder does not exist or cannot be written to.
    """
    if out.suffix != ".json" or out.is_dir():
        raise OptionError(f"--out takes a file that ends in .json, by which runs are found, not {out}")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OptionError(f"--out {out}: {out.parent} is no folder that can be written to; make it, or choose another")


def _stats(seconds: Iterable[float]) -> Object:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for one in seconds:
        stats.update(one)
    return {**(stats.as_dict() if stats.data else {}), "data": stats.data}


def _foreign(record: ForeignRecord) -> Object:
    stats = {"median": record.latency.value, "rounds": record.latency.rounds}
    return {"name": record.test.rpartition("::")[2], "fullname": record.test, "extra_info": {}, "stats": stats}
