"""The run files of all shards joined to the file of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError
from cnnperf.records.document import parse_document
from cnnperf.records.shards import parse_shard
from cnnperf.runs.comparison import MOMENTARY
from cnnperf.runs.files import find_files, read_document
from cnnperf.runs.swept import add_sweeps

Document = dict[str, Any]

SUMMED = ("wall_seconds", "compile_seconds", "round_seconds", "planned")
GATHERED = ("findings", "not_measured")
OF_ONE_SHARD = frozenset({"shard", "of_cases", "regressed"})
EQUAL = ("schema", "suite", "of_cases")


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
    files = [file for path in paths for file in find_files(path)]
    shards = sorted((_shard(file) for file in files), key=lambda one: (one[1], one[0].name))
    names = [file.name for file, _, _ in shards]
    documents = [document for _, _, document in shards]
    _check_alike(names, documents)
    if not allow_missing:
        _check_complete(documents)
    latest = max(documents, key=lambda document: str(document.get("datetime")))
    merged = {**latest, "benchmarks": _benchmarks(names, documents), "cnnperf": _facts(documents)}
    add_sweeps(merged)
    return merged


def _facts(documents: Sequence[Document]) -> Document:
    facts = [document["cnnperf"] for document in documents]
    merged = {key: value for key, value in facts[0].items() if key not in OF_ONE_SHARD}
    merged |= {name: sum(fact.get(name) or 0 for fact in facts) for name in SUMMED}
    merged |= {name: _once(entry for fact in facts for entry in fact.get(name, [])) for name in GATHERED}
    merged["ceilings"] = {}
    for fact in reversed(facts):
        merged["ceilings"] |= fact.get("ceilings", {})
    return merged


def _shard(file: Path) -> tuple[Path, int, Document]:
    """Return a file, the number of its shard and its document, which is sound."""
    document = read_document(file)
    if document is None or "shard" not in (facts := document.get("cnnperf") or {}):
        raise RunFileError(f"{file}: not a run of a shard; those are made with --cnnperf-shard, such as 2/5")
    try:
        parse_document(document)
        return file, parse_shard(str(facts["shard"]), "cnnperf.shard").number, document
    except ValueError as error:
        raise RunFileError(f"{file}: {error}") from error


def _check_alike(names: Sequence[str], documents: Sequence[Document]) -> None:
    runs = [parse_document(document) for document in documents]
    for what, values in (
        ("commits", [run.commit for run in runs]),
        ("numbers of shards", [document["cnnperf"]["shard"].partition("/")[2] for document in documents]),
        *((f"values of {key}", [document["cnnperf"].get(key) for document in documents]) for key in EQUAL),
    ):
        other = next((place for place, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise RunFileError(
                f"{names[0]} and {names[other]} are of two {what}, {values[0]!r} and {values[other]!r}; only the "
                "shards of one run can be merged"
            )
    for name, run in zip(names, runs, strict=True):
        pairs = _unlike(runs[0].environment, run.environment)
        if pairs:
            told = "; ".join(f"{key}: {before} and {after}" for key, (before, after) in pairs.items())
            raise RunFileError(f"{names[0]} and {name} are of unlike environments ({told}), whose times do not compare")


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = sorted({*one, *other} - MOMENTARY)
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def _check_complete(documents: Sequence[Document]) -> None:
    shards = [parse_shard(document["cnnperf"]["shard"]) for document in documents]
    count = shards[0].count
    missing = sorted(set(range(1, count + 1)) - {shard.number for shard in shards})
    if missing:
        told = ", ".join(f"{number}/{count}" for number in missing)
        raise RunFileError(f"the shards {told} are missing; --allow-missing merges the others all the same")


def _benchmarks(names: Sequence[str], documents: Sequence[Document]) -> list[Any]:
    """Return every benchmark once."""
    found: dict[str, tuple[str, Any]] = {}
    for name, document in zip(names, documents, strict=True):
        for benchmark in document["benchmarks"]:
            key = str(benchmark.get("fullname"))
            first, before = found.setdefault(key, (name, benchmark))
            if before != benchmark:
                raise RunFileError(
                    f"{key} is in {first} and in {name} with different results; which one counts cannot be told"
                )
    return [benchmark for _, benchmark in found.values()]


def _once(entries: Any) -> list[Any]:
    kept: list[Any] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return kept
