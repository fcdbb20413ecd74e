"""The run files of all shards of a suite joined to one run file."""

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
from cnnperf.records.run import MOMENTARY, CaseRecord, Run
from cnnperf.records.shards import Shard, parse_shard
from cnnperf.runs.files import find_files
from cnnperf.runs.sweeps import with_sweeps

SUMMED = ("wall_seconds", "compile_seconds", "round_seconds")
EQUAL: Mapping[str, Callable[[Run], object]] = {
    "commits": lambda run: run.commit,
    "numbers of shards": lambda run: parse_shard(run.shard).count,
    "values of suite": lambda run: run.suite,
    "values of of_cases": lambda run: run.of_cases,
}
"""What has to be equal in all shards of one run."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ShardFile:
    """The run file of a shard.

    Attributes:
        name: Name of the file.
        shard: Which part of the suite it is.
        run: The record of the run.
        document: The document, with everything that others have written into it.
    """

    name: str
    shard: Shard
    run: Run
    document: Document


def merge_runs(paths: Sequence[Path], *, allow_missing: bool = False) -> Document:
    """Join the run files of one suite's shards.

    Cases stand in the order of the shards. Seconds are summed, ceilings are those of the first shard that has a
    device's, and findings about the machine are kept once each. The time is that of the shard that was saved last.

    Args:
        paths: Run files of shards, or folders of them.
        allow_missing: Join though a shard is missing.

    Returns:
        The document of one run file, without a shard's mark.

    Raises:
        RunFileError: If a file is no run of a shard, they are of two commits, environments or suites, a shard is
            missing, or a case is in two of them with different results.
    """
    files = [_read(file) for path in paths for file in find_files(path)]
    files.sort(key=lambda one: (one.shard.number, one.name))
    _check_alike(files)
    if not allow_missing:
        _check_complete([one.shard for one in files])
    latest = max(files, key=lambda one: one.run.time or _EARLIEST)
    merged = {**latest.document, "benchmarks": _each_once(files)}
    complete(merged, with_sweeps(_joined([one.run for one in files], parse_document(merged).cases)))
    return merged


def _joined(runs: Sequence[Run], cases: tuple[CaseRecord, ...]) -> Run:
    ceilings: dict[str, Mapping[str, float]] = {}
    for run in reversed(runs):
        ceilings |= run.ceilings
    return runs[0].replace(
        planned=sum(run.planned or 0 for run in runs),
        cases=cases,
        not_measured=_distinct(one for run in runs for one in run.not_measured),
        findings=_distinct(one for run in runs for one in run.findings),
        ceilings=ceilings,
        shard="",
        of_cases="",
        regressed="",
        **{name: math.fsum(getattr(run, name) or 0.0 for run in runs) for name in SUMMED},
    )


def _read(file: Path) -> ShardFile:
    refusal = RunFileError(f"{file}: not a run of a shard; those are made with --cnnperf-shard, such as 2/5")
    document = read_document(file)
    if document is None:
        raise refusal
    try:
        run = parse_document(document)
        shard = parse_shard(run.shard, "cnnperf.shard") if run.shard else None
    except ValueError as error:
        raise RunFileError(f"{file}: {error}") from error
    if shard is None:
        raise refusal
    return ShardFile(file.name, shard, run, document)


def _check_alike(files: Sequence[ShardFile]) -> None:
    first = files[0]
    for what, read in EQUAL.items():
        values = [read(one.run) for one in files]
        other = next((place for place, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise RunFileError(
                f"{first.name} and {files[other].name} are of two {what}, {values[0]!r} and {values[other]!r}; only "
                "the shards of one run can be merged"
            )
    for one in files:
        pairs = _unlike(first.run.environment, one.run.environment)
        if pairs:
            differences = "; ".join(f"{key}: {before} and {after}" for key, (before, after) in pairs.items())
            raise RunFileError(
                f"{first.name} and {one.name} are of unlike environments ({differences}), whose times do not compare"
            )


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted({*one, *other} - MOMENTARY)
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def _check_complete(shards: Sequence[Shard]) -> None:
    count = shards[0].count
    missing = sorted(set(range(1, count + 1)) - {shard.number for shard in shards})
    if missing:
        listed = ", ".join(f"{number}/{count}" for number in missing)
        raise RunFileError(f"the shards {listed} are missing; --allow-missing merges the others all the same")


def _each_once(files: Sequence[ShardFile]) -> list[Any]:
    """Return every benchmark once."""
    found: dict[str, tuple[str, Any]] = {}
    for file in files:
        for benchmark in file.document["benchmarks"]:
            key = str(benchmark.get("fullname"))
            first, before = found.setdefault(key, (file.name, benchmark))
            if before != benchmark:
                raise RunFileError(
                    f"{key} is in {first} and in {file.name} with different results; which one counts cannot be told"
                )
    return [benchmark for _, benchmark in found.values()]


def _distinct(entries: Iterable[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return tuple(kept)
