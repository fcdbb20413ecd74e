"""Writing of records to run files, in pytest-benchmark's layout with the parts of `encoding`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, MutableMapping
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
    """Return the element of `benchmarks` for a case, including pytest-benchmark's statistics."""
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


def add_interrupted(document: MutableMapping[str, Any], run: Run) -> None:
    """Add the cases of an interrupted block to a document that pytest-benchmark has written.

    It lacks those whose tests did not run any more, although the block has whole cycles of them.

    Args:
        document: Document with the benchmarks; changed in place.
        run: The run, with the names of the tests of all its cases.
    """
    saved = {benchmark["fullname"] for benchmark in document["benchmarks"]}
    document["benchmarks"] += [benchmark_entry(record) for record in run.cases if record.test not in saved]


def save_run(path: Path, run: Run) -> None:
    """Write a run file.

    Raises:
        CnnperfError: If the file cannot be written; an existing file at the path is kept.
    """
    save_document(path, document_of(run))


def save_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write the document of a run file.

    Raises:
        CnnperfError: If the file cannot be written; an existing file at the path is kept.
    """
    write_whole(path, msgspec.json.encode(document))


class Journal:
    """File that gets one line as soon as a case is finished, so that a crash loses no finished case."""

    def __init__(self, folder: Path, run: Run) -> None:
        """Create the file, named after the current time.

        Args:
            folder: Folder of the journal; created if it does not exist.
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

    def delete(self) -> None:
        """Delete the file, once the run file is saved."""
        self.path.unlink(missing_ok=True)

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")


def numbered_path(storage: Path) -> Path:
    """Return the path that `pytest --benchmark-autosave` would use for the next run in a storage folder."""
    from pytest_benchmark.utils import get_machine_id, get_tag

    folder = storage / str(get_machine_id())
    numbers = [int(file.name[:4]) for file in folder.glob("[0-9][0-9][0-9][0-9]_*.json")]
    return folder / f"{max(numbers, default=0) + 1:04}_{get_tag()}.json"


def check_folder(folder: Path) -> None:
    """Create a folder for runs before anything is measured.

    Raises:
        CnnperfError: If the folder cannot be created or written to.
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
        OptionError: If the name does not end in `.json`, or its folder does not exist or cannot be written to.
    """
    if out.suffix != ".json" or out.is_dir():
        raise OptionError(f"--out takes a file that ends in .json, by which runs are found, not {out}")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OptionError(f"--out {out}: {out.parent} is not a writable folder; create it, or choose another")


def _stats(seconds: Iterable[float]) -> Object:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for duration in seconds:
        stats.update(duration)
    return {**(stats.as_dict() if stats.data else {}), "data": stats.data}


def _foreign(record: ForeignRecord) -> Object:
    stats = {"median": record.latency.value, "rounds": record.latency.rounds}
    return {"name": record.test.rpartition("::")[2], "fullname": record.test, "extra_info": {}, "stats": stats}
