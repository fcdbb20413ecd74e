"""The run files of all shards of a suite joined to one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cnnperf.errors import RunFileError
from cnnperf.records.files import read_run
from cnnperf.records.run import MOMENTARY, CaseRecord, ForeignRecord, Run
from cnnperf.records.shards import Shard, parse_shard
from cnnperf.runs.files import find_files
from cnnperf.runs.swept import with_sweeps

SUMMED = ("wall_seconds", "compile_seconds", "round_seconds")
EQUAL: Mapping[str, Callable[[Run], object]] = {
    "commits": lambda run: run.commit,
    "numbers of shards": lambda run: parse_shard(run.shard).count,
    "values of suite": lambda run: run.suite,
    "values of of_cases": lambda run: run.of_cases,
}
"""What has to be equal in all shards of one run."""

Record = TypeVar("Record", CaseRecord, ForeignRecord)
Named = Sequence[tuple[str, Run]]
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def merge_runs(paths: Sequence[Path], *, allow_missing: bool = False) -> Run:
    """Join the run files of one suite's shards.

    Cases stand in the order of the shards. Seconds are summed, ceilings are those of the first shard that has a
    device's, and findings about the machine are kept once each. The time is that of the shard that was saved last.

    Args:
        paths: Run files of shards, or folders of them.
        allow_missing: Join though a shard is missing.

    Returns:
        One run, without a shard's mark.

    Raises:
        RunFileError: If a file is no run of a shard, they are of two commits, environments or suites, a shard is
            missing, or a case is in two of them with different results.
    """
    files = [file for path in paths for file in find_files(path)]
    shards = sorted(((file.name, *_shard(file)) for file in files), key=lambda one: (one[1].number, one[0]))
    named = [(name, run) for name, _, run in shards]
    _check_alike(named)
    if not allow_missing:
        _check_complete([shard for _, shard, _ in shards])
    return with_sweeps(_joined(named))


def _joined(named: Named) -> Run:
    runs = [run for _, run in named]
    latest = max(runs, key=lambda run: run.time or _EARLIEST)
    summed = {name: math.fsum(getattr(run, name) or 0.0 for run in runs) for name in SUMMED}
    ceilings: dict[str, Mapping[str, float]] = {}
    for run in reversed(runs):
        ceilings |= run.ceilings
    return runs[0].replace(
        time=latest.time,
        commit_info=latest.commit_info,
        machine_info=latest.machine_info,
        planned=sum(run.planned or 0 for run in runs),
        cases=tuple(_each_once((name, one) for name, run in named for one in run.cases)),
        foreign=tuple(_each_once((name, one) for name, run in named for one in run.foreign)),
        not_measured=_distinct(one for run in runs for one in run.not_measured),
        findings=_distinct(one for run in runs for one in run.findings),
        ceilings=ceilings,
        shard="",
        of_cases="",
        regressed="",
        **summed,
    )


def _shard(file: Path) -> tuple[Shard, Run]:
    """Return the shard of a run file and its run."""
    run = read_run(file)
    if run is None or not run.shard:
        raise RunFileError(f"{file}: not a run of a shard; those are made with --cnnperf-shard, such as 2/5")
    try:
        return parse_shard(run.shard, "cnnperf.shard"), run
    except ValueError as error:
        raise RunFileError(f"{file}: {error}") from error


def _check_alike(named: Named) -> None:
    first = named[0][0]
    for what, read in EQUAL.items():
        values = [read(run) for _, run in named]
        other = next((place for place, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise RunFileError(
                f"{first} and {named[other][0]} are of two {what}, {values[0]!r} and {values[other]!r}; only the "
                "shards of one run can be merged"
            )
    for name, run in named:
        pairs = _unlike(named[0][1].environment, run.environment)
        if pairs:
            differences = "; ".join(f"{key}: {before} and {after}" for key, (before, after) in pairs.items())
            raise RunFileError(
                f"{first} and {name} are of unlike environments ({differences}), whose times do not compare"
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


def _each_once(records: Iterable[tuple[str, Record]]) -> list[Record]:
    """Return every record once; the text with each is the name of its file."""
    found: dict[str, tuple[str, Record]] = {}
    for name, record in records:
        first, before = found.setdefault(record.test, (name, record))
        if before != record:
            raise RunFileError(
                f"{record.test} is in {first} and in {name} with different results; which one counts cannot be told"
            )
    return [record for _, record in found.values()]


def _distinct(entries: Iterable[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return tuple(kept)
