"""Merging of the run files of all shards of a suite into one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError
from cnnperf.records.encoding import complete
from cnnperf.records.files import read_document
from cnnperf.records.reading import Document, parse_document
from cnnperf.records.run import CaseRecord, Run
from cnnperf.records.shards import Shard, parse_shard
from cnnperf.runs.comparison import differences
from cnnperf.runs.files import find_files
from cnnperf.runs.ratio_metrics import with_ratios
from cnnperf.runs.sweeps import with_sweeps

SUMMED = ("wall_seconds", "compile_seconds", "round_seconds")
EQUAL: Mapping[str, Callable[[Run], object]] = {
    "commits": lambda run: run.commit,
    "numbers of shards": lambda run: parse_shard(run.shard).count,
    "values of suite": lambda run: run.suite,
    "values of of_cases": lambda run: run.of_cases,
}
"""Facts that must be equal in all shards of one run."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ShardFile:
    """Run file of a shard.

    Attributes:
        name: Name of the file.
        shard: Number of the shard and count of shards.
        run: Record of the run.
        document: The document, including what other programs have written into it.
    """

    name: str
    shard: Shard
    run: Run
    document: Document


def merge_runs(paths: Sequence[Path], *, allow_missing: bool = False) -> Document:
    """Merge the run files of the shards of one suite.

    Cases are in the order of the shards. Seconds are summed, ceilings of a device are those of the first shard that has
    them, and equal findings about the machine are kept once. The time is that of the shard that was saved last.

    Args:
        paths: Run files of shards, or folders of them.
        allow_missing: Merge even if a shard is missing.

    Returns:
        The document of one run file, without the mark of a shard.

    Raises:
        RunFileError: If a file is not a run of a shard, the shards have different commits, environments or suites, a
            shard is missing, or a case is in two shards with different results.
    """
    files = [_read(file) for path in paths for file in find_files(path)]
    files.sort(key=lambda file: (file.shard.number, file.name))
    _check_alike(files)
    if not allow_missing:
        _check_complete([file.shard for file in files])
    latest = max(files, key=lambda file: file.run.time or _EARLIEST)
    merged = {**latest.document, "benchmarks": _each_once(files)}
    run = _joined([file.run for file in files], parse_document(merged).cases)
    complete(merged, with_ratios(with_sweeps(run)))
    return merged


def _joined(runs: Sequence[Run], cases: tuple[CaseRecord, ...]) -> Run:
    ceilings: dict[str, Mapping[str, float]] = {}
    for run in reversed(runs):
        ceilings |= run.ceilings
    return runs[0].replace(
        planned=None if any(run.planned is None for run in runs) else sum(run.planned or 0 for run in runs),
        cases=cases,
        not_measured=_distinct(entry for run in runs for entry in run.not_measured),
        findings=_distinct(finding for run in runs for finding in run.findings),
        ceilings=ceilings,
        shard="",
        of_cases="",
        regressed="",
        **{name: math.fsum(getattr(run, name) or 0.0 for run in runs) for name in SUMMED},
    )


def _read(file: Path) -> ShardFile:
    document = read_document(file)
    try:
        run = None if document is None else parse_document(document)
        shard = parse_shard(run.shard, "cnnperf.shard") if run is not None and run.shard else None
    except ValueError as error:
        raise RunFileError(f"{file}: {error}") from error
    if document is None or run is None or shard is None:
        raise RunFileError(f"{file}: not a run of a shard; those are made with --cnnperf-shard, such as 2/5")
    return ShardFile(file.name, shard, run, document)


def _check_alike(files: Sequence[ShardFile]) -> None:
    first = files[0]
    for what, read in EQUAL.items():
        value = read(first.run)
        other = next((file for file in files if read(file.run) != value), None)
        if other is not None:
            raise RunFileError(
                f"{first.name} and {other.name} are of two {what}, {value!r} and {read(other.run)!r}; only "
                "the shards of one run can be merged"
            )
    for file in files:
        if pairs := differences(first.run.environment, file.run.environment):
            text = "; ".join(f"{key}: {before} and {after}" for key, (before, after) in pairs.items())
            raise RunFileError(
                f"{first.name} and {file.name} are of unlike environments ({text}), whose times do not compare"
            )


def _check_complete(shards: Sequence[Shard]) -> None:
    count = shards[0].count
    missing = sorted(set(range(1, count + 1)) - {shard.number for shard in shards})
    if missing:
        listed = ", ".join(f"{number}/{count}" for number in missing)
        raise RunFileError(f"the shards {listed} are missing; --allow-missing merges the others all the same")


def _each_once(files: Sequence[ShardFile]) -> list[Any]:
    """Return every benchmark once."""
    benchmarks: dict[str, tuple[str, Any]] = {}
    for file in files:
        for benchmark in file.document["benchmarks"]:
            name = str(benchmark.get("fullname"))
            first, before = benchmarks.setdefault(name, (file.name, benchmark))
            if before != benchmark:
                raise RunFileError(
                    f"{name} is in {first} and in {file.name} with different results; leave one of the files out"
                )
    return [benchmark for _, benchmark in benchmarks.values()]


def _distinct(entries: Iterable[Any]) -> tuple[Any, ...]:
    distinct: list[Any] = []
    for entry in entries:
        if entry not in distinct:
            distinct.append(entry)
    return tuple(distinct)
