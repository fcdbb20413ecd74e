"""The run-file document parsed into records: the one place that knows the layout of a run file.

A document is the JSON of pytest-benchmark with what cnnperf adds to it; it may also be the part of one that a run
under way can tell: `{"benchmarks": [...], "cnnperf": {...}}`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from cnnperf.errors import RunFileError
from cnnperf.records.case import AXIS_BY_NAME, AxisValue, Case
from cnnperf.records.fields import Object, as_count, as_list, as_number, as_object, as_text, need, part, wrong
from cnnperf.records.finding import Finding
from cnnperf.records.fusion import KEY as FUSION
from cnnperf.records.fusion import fusion_records
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.run import CaseRecord, ForeignRecord, NotMeasured, Run, Scalar

SCHEMA = 1
"""The newest layout of run files that this version reads."""


def parse_document(document: Object) -> Run:
    """Parse a run-file document.

    Args:
        document: The JSON; only `benchmarks` must be there.

    Returns:
        The run. Benchmarks that cnnperf did not write are left out.

    Raises:
        RunFileError: If something is missing, is of the wrong kind, or was written by a newer version of cnnperf. The
            message says where in the document.
    """
    facts = part(document, "cnnperf", "cnnperf")
    _check_schema(facts.get("schema", SCHEMA), "cnnperf.schema")
    benchmarks = as_list(need(document, "benchmarks", "the document"), "benchmarks")
    cases = [_case(entry, f"benchmarks[{index}]") for index, entry in enumerate(benchmarks)]
    environment = _environment(facts)
    planned = facts.get("planned")
    return Run(
        time=_time(document.get("datetime")),
        commit=_commit(part(document, "commit_info", "commit_info")),
        machine=_machine(environment, part(document, "machine_info", "machine_info")),
        ours="cnnperf" in document or any(case is not None for case in cases),
        suite=as_text(facts.get("suite", ""), "cnnperf.suite"),
        planned=None if planned is None else as_count(planned, "cnnperf.planned"),
        cases=tuple(case for case in cases if case is not None),
        fusion=tuple(fusion_records(benchmarks)),
        foreign=tuple(_foreign(benchmarks)),
        not_measured=_not_measured(facts),
        findings=_findings(facts, "cnnperf"),
        environment=environment,
        ceilings=_ceilings(facts),
        wall_seconds=as_number(facts.get("wall_seconds"), "cnnperf.wall_seconds"),
        compile_seconds=as_number(facts.get("compile_seconds"), "cnnperf.compile_seconds"),
        round_seconds=as_number(facts.get("round_seconds"), "cnnperf.round_seconds"),
        shard=as_text(facts.get("shard", ""), "cnnperf.shard"),
        hosts=tuple(as_text(host, "cnnperf.hosts") for host in as_list(facts.get("hosts", []), "cnnperf.hosts")),
        anchor=as_text(facts.get("anchor", ""), "cnnperf.anchor"),
        regressed=as_text(facts.get("regressed", ""), "cnnperf.regressed"),
        step=None if facts.get("step") is None else as_number(facts["step"], "cnnperf.step"),
    )


def _check_schema(found: object, where: str) -> None:
    version = as_count(found, where)
    if version > SCHEMA:
        raise RunFileError(
            f"{where}: the file has schema {version}, this version of cnnperf reads up to {SCHEMA}; upgrade cnnperf"
        )


def _case(entry: object, where: str) -> CaseRecord | None:
    """Parse one benchmark; None for one that another suite wrote."""
    benchmark = as_object(entry, where)
    extra = part(benchmark, "extra_info", f"{where}.extra_info")
    if "cnnperf" not in extra:
        return None
    where_extra = f"{where}.extra_info"
    _check_schema(extra["cnnperf"], f"{where_extra}.cnnperf")
    metrics = as_object(need(extra, "metrics", where_extra), f"{where_extra}.metrics")
    entries = {name: as_object(value, f"{where_extra}.metrics.{name}") for name, value in metrics.items()}
    return CaseRecord(
        case=Case.from_axes(_axes(need(extra, "axes", where_extra), f"{where_extra}.axes")),
        values={name: _value(value, f"{where_extra}.metrics.{name}") for name, value in entries.items()},
        units={name: _unit(name, value, f"{where_extra}.metrics.{name}") for name, value in entries.items()},
        groups=_groups(benchmark, extra, where),
        findings=_findings(extra, where_extra),
        processes=tuple(
            as_number(seconds, f"{where_extra}.processes[{index}]")
            for index, seconds in enumerate(as_list(extra.get("processes", []), f"{where_extra}.processes"))
        ),
        seconds=as_number(extra.get("seconds"), f"{where_extra}.seconds"),
        ranks=_ranks(part(extra, "ranks", f"{where_extra}.ranks"), f"{where_extra}.ranks"),
    )


def _foreign(benchmarks: Sequence[object]) -> Iterator[ForeignRecord]:
    """Yield what other suites wrote, as far as it has a median."""
    for index, entry in enumerate(benchmarks):
        where = f"benchmarks[{index}]"
        benchmark = as_object(entry, where)
        extra = part(benchmark, "extra_info", f"{where}.extra_info")
        stats = part(benchmark, "stats", f"{where}.stats")
        if not {"cnnperf", FUSION} & set(extra) and "median" in stats:
            median, rounds = as_number(stats["median"], f"{where}.stats.median"), stats.get("rounds")
            count = None if rounds is None else as_count(rounds, f"{where}.stats.rounds")
            yield ForeignRecord(
                str(benchmark.get("fullname") or benchmark.get("name") or ""), Value(median, None, None, count)
            )


def _axes(value: object, where: str) -> dict[str, AxisValue]:
    axes: dict[str, AxisValue] = {}
    for name, given in as_object(value, where).items():
        if name not in AXIS_BY_NAME:  # dropping it would merge cases that differ
            raise RunFileError(
                f"{where}: unknown axis {name!r}; the axes are {', '.join(AXIS_BY_NAME)}. A newer version of cnnperf "
                "wrote the file: upgrade cnnperf"
            )
        kind = AXIS_BY_NAME[name].type
        axes[name] = as_count(given, f"{where}.{name}") if kind is int else as_text(given, f"{where}.{name}")
    return axes


def _value(entry: Object, where: str) -> Value:
    low, high = (as_number(entry.get(key), f"{where}.{key}") for key in ("low", "high"))
    rounds = entry.get("rounds")
    return Value(
        as_number(need(entry, "value", where), f"{where}.value"),
        None if math.isnan(low) else low,
        None if math.isnan(high) else high,
        None if rounds is None else as_count(rounds, f"{where}.rounds"),
    )


def _unit(name: str, entry: Object, where: str) -> str:
    known = METRICS[name].unit if name in METRICS else ""
    return as_text(entry.get("unit", known), f"{where}.unit")


def _groups(benchmark: Object, extra: Object, where: str) -> tuple[tuple[float, ...], ...]:
    """Cut the raw rounds into their groups; all are one group where the record does not say."""
    stats = part(benchmark, "stats", f"{where}.stats")
    data = as_list(stats.get("data", []), f"{where}.stats.data")
    seconds = [as_number(value, f"{where}.stats.data[{index}]") for index, value in enumerate(data)]
    if not seconds:
        return ()
    place = f"{where}.extra_info.groups"
    sizes = [as_count(size, place) for size in as_list(extra.get("groups", [len(seconds)]), place)]
    if sum(sizes) != len(seconds):
        raise RunFileError(f"{place}: the groups have {sum(sizes)} rounds, the data {len(seconds)}; one is damaged")
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return tuple(tuple(seconds[end - size : end]) for size, end in zip(sizes, ends, strict=True))


def _ranks(kinds: Object, where: str) -> dict[str, tuple[tuple[float, ...], ...]]:
    return {
        kind: tuple(
            tuple(
                as_number(seconds, f"{where}.{kind}[{rank}]") for seconds in as_list(rounds, f"{where}.{kind}[{rank}]")
            )
            for rank, rounds in enumerate(as_list(processes, f"{where}.{kind}"))
        )
        for kind, processes in kinds.items()
    }


def _findings(container: Object, where: str) -> tuple[Finding, ...]:
    found = []
    for index, entry in enumerate(as_list(container.get("findings", []), f"{where}.findings")):
        place = f"{where}.findings[{index}]"
        record = as_object(entry, place)
        kind = as_text(need(record, "kind", place), f"{place}.kind")
        rest = (as_text(record.get(key, ""), f"{place}.{key}") for key in ("seen", "meaning", "remedy"))
        found.append(Finding(kind, *rest))
    return tuple(found)


def _not_measured(facts: Object) -> tuple[NotMeasured, ...]:
    records = []
    for index, entry in enumerate(as_list(facts.get("not_measured", []), "cnnperf.not_measured")):
        place = f"cnnperf.not_measured[{index}]"
        record = as_object(entry, place)
        axes = _axes(need(record, "axes", place), f"{place}.axes")
        records.append(NotMeasured(axes, as_text(need(record, "reason", place), f"{place}.reason")))
    return tuple(records)


def _environment(facts: Object) -> dict[str, Scalar]:
    record: dict[str, Scalar] = {}
    for name, value in part(facts, "environment", "cnnperf.environment").items():
        if not (value is None or isinstance(value, str | int | float)):
            raise wrong(value, f"cnnperf.environment.{name}", "a plain value")
        record[name] = value
    return record


def _ceilings(facts: Object) -> dict[str, dict[str, float]]:
    devices = part(facts, "ceilings", "cnnperf.ceilings")
    return {
        device: {
            name: as_number(value, f"cnnperf.ceilings.{device}.{name}")
            for name, value in as_object(rates, f"cnnperf.ceilings.{device}").items()
        }
        for device, rates in devices.items()
    }


def _time(value: object) -> datetime | None:
    """Parse the time of the run; one without a zone is UTC, as pytest-benchmark wrote it before it named the zone."""
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(as_text(value, "datetime"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong(value, "datetime", "a time in ISO 8601") from None


def _commit(info: Object) -> str:
    name = str(info.get("id") or "")
    short = name[:10] if re.fullmatch("[0-9a-f]{10,}", name) else name  # "unversioned" is no hash to shorten
    return f"{short}+dirty" if info.get("dirty") else short


def _machine(environment: Mapping[str, Scalar], info: Object) -> str:
    cpu = info.get("cpu")
    brand = cpu.get("brand_raw") if isinstance(cpu, Mapping) else None
    model = environment.get("cpu_model") or brand or info.get("node") or ""
    return " + ".join(str(name) for name in (model, environment.get("gpu_model")) if name)
