"""Decoding of run files into records.

JSON that is exactly as cnnperf writes it is decoded in one pass. Everything else - journals, files with NaN or unusual
characters, damaged files - takes a second path over plain Python values, which also writes the error messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.cells import cells_to_cases
from cnnperf.records.faults import decoded, wrong
from cnnperf.records.finding import with_severity
from cnnperf.records.layout import SCHEMA, Benchmark, CaseInfo, Facts, File, Mark
from cnnperf.records.metrics import Value
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, ForeignRecord, NotMeasured, Run

Document = dict[str, Any]
UPGRADES: Mapping[int, Callable[[Document], Document]] = {1: cells_to_cases}
"""Schema to the function that turns a document of that schema into one of the next schema."""

OLDEST = 1
"""Schema of a file that does not name its schema."""

ONE_PASS = frozenset({1, 2})
"""Schemas that are read in one pass, without `UPGRADES`. Only the cells of schema 1 need their upgrade, and they decode
as no case, so that their file takes the second path. An upgrade of schema 2 has to remove both from here."""

_FILE = msgspec.json.Decoder(File[msgspec.Raw])
_NUMBERS = frozenset({"value", "median"})  # keys of numbers for which msgspec and others write null in place of NaN
_KEEPS_NULLS = frozenset({"environment", "machine_info", "commit_info"})  # null is a value there
_ROOT = "$"


def decode_run(data: bytes, source: str = "") -> Run | None:
    """Decode the JSON of a run file in one pass.

    Args:
        data: The whole file.
        source: Prefix of errors about rounds, which are decoded later, such as `run.json: `.

    Returns:
        The run; None if `parse_document` has to read it: it has another schema or a fault, or is not the strict JSON
        that cnnperf writes.
    """
    try:
        file = _FILE.decode(data)
        unknown = file.machine_info is None if file.cnnperf is None else file.cnnperf.schema not in ONE_PASS
        return None if unknown else _run(file, source)
    except (msgspec.MsgspecError, RunFileError, RecursionError):
        return None


def parse_document(document: Mapping[str, Any], source: str = "") -> Run:
    """Parse the JSON of a run file.

    Args:
        document: Plain Python values; `benchmarks` and `cnnperf` are enough for a run in progress.
        source: As in `decode_run`.

    Raises:
        RunFileError: If a part is missing, has the wrong type, or was written by a newer version of cnnperf. The
            message says where in the document.
    """
    return _run(decoded(_upgraded(_without_nulls(document)), File[Any], _ROOT), source)


def _upgraded(document: Any) -> Any:
    facts = document.get("cnnperf") if isinstance(document, Mapping) else None
    schema = facts.get("schema", OLDEST) if isinstance(facts, Mapping) else OLDEST
    check_schema(schema, f"{_ROOT}.cnnperf.schema")
    while isinstance(schema, int) and schema in UPGRADES:
        document, schema = UPGRADES[schema](document), schema + 1
    return document


def check_schema(schema: object, where: str) -> None:
    """Reject a file of a newer version of cnnperf.

    Raises:
        RunFileError: If the schema is newer than `SCHEMA`.
    """
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunFileError(
            f"{where}: the file has schema {schema}, this version of cnnperf reads up to {SCHEMA}; upgrade cnnperf"
        )


def _without_nulls(value: Any, key: str = "", above: str = "") -> Any:
    """Drop keys whose value is null, and replace null by NaN where a number is needed.

    Args:
        value: Part of a document.
        key: Key of the part.
        above: Key of the object that contains the part.
    """
    if isinstance(value, Mapping):
        if key in _KEEPS_NULLS:
            return value
        numbers = value.keys() if above == "ceilings" else _NUMBERS
        result = {}
        for name, child in value.items():
            if child is not None:
                result[name] = _without_nulls(child, name, key)
            elif name in numbers:
                result[name] = math.nan
        return result
    if isinstance(value, list | tuple):
        return [math.nan if item is None else _without_nulls(item) for item in value]
    return value


def _run(file: File[Any], source: str) -> Run:
    facts = file.cnnperf or Facts()
    records = []
    for number, benchmark in enumerate(file.benchmarks):
        records.append(_record(benchmark, f"{_ROOT}.benchmarks[{number}]", source))
    cases = tuple(record for record in records if isinstance(record, CaseRecord))
    return Run(
        time=_time(file.datetime),
        commit_info=file.commit_info,
        machine_info=file.machine_info or {},
        ours=file.cnnperf is not None or bool(cases),
        suite=facts.suite,
        planned=facts.planned,
        cases=cases,
        foreign=tuple(record for record in records if isinstance(record, ForeignRecord)),
        not_measured=tuple(_not_measured(facts.not_measured)),
        findings=facts.findings,
        environment=facts.environment,
        ceilings=facts.ceilings,
        wall_seconds=facts.wall_seconds,
        compile_seconds=facts.compile_seconds,
        round_seconds=facts.round_seconds,
        anchor=facts.anchor,
        regressed=facts.regressed,
        smallest_difference=facts.smallest_difference,
        step=facts.step,
        hosts=facts.hosts,
        shard=facts.shard,
        of_cases=facts.of_cases,
    )


def _record(benchmark: Benchmark[Any], where: str, source: str) -> CaseRecord | ForeignRecord | None:
    """Return the record of a benchmark; None for one of another suite without a median."""
    extra, place = benchmark.extra_info, f"{where}.extra_info"
    try:
        info = decoded(extra, CaseInfo, place)
    except RunFileError:
        mark = decoded(extra, Mark, place)
        check_schema(mark.cnnperf, f"{place}.cnnperf")
        if mark.cnnperf is not None or mark.cnnperf_fusion is not None:
            raise  # on the second path `_upgraded` has already turned cells into cases
        return _foreign(benchmark)
    check_schema(info.cnnperf, f"{place}.cnnperf")
    for number, over in enumerate(info.ratios):
        decoded(over.axes, Case, f"{place}.ratios[{number}].axes")
    return _case(info, benchmark, f"{source}{where}")


def _case(info: CaseInfo, benchmark: Benchmark[Any], where: str) -> CaseRecord:
    return CaseRecord(
        case=info.axes,
        values=info.metrics,
        rounds=Rounds.saved(benchmark.stats.data, info.groups, f"{where}.stats.data"),
        findings=tuple(map(with_severity, info.findings)),
        processes=info.processes,
        seconds=info.seconds,
        ranks=info.ranks,
        stopped=info.stopped,
        test=_test(benchmark),
        block=info.block,
        ratios=info.ratios,
    )


def _foreign(benchmark: Benchmark[Any]) -> ForeignRecord | None:
    stats = benchmark.stats
    return None if stats.median is None else ForeignRecord(_test(benchmark), Value(stats.median, rounds=stats.rounds))


def _test(benchmark: Benchmark[Any]) -> str:
    return benchmark.fullname or benchmark.name or ""


def _not_measured(entries: Sequence[NotMeasured]) -> Iterator[NotMeasured]:
    for number, entry in enumerate(entries):
        decoded(entry.axes, Case, f"{_ROOT}.cnnperf.not_measured[{number}].axes")
        yield entry


def _time(value: object) -> datetime | None:
    """Parse the time of the run; a time without a zone is UTC, as older versions of pytest-benchmark wrote it."""
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)  # type: ignore[arg-type]  # raises TypeError if it is not a text
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise wrong(value, f"{_ROOT}.datetime", "a time in ISO 8601") from None
