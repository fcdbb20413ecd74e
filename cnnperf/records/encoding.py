"""Encoding of records as parts of a run file, in the types of `layout`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import msgspec

from cnnperf.records.layout import SCHEMA, CaseInfo, Facts
from cnnperf.records.run import CaseRecord, Run

Object = dict[str, Any]


def extra_info(record: CaseRecord) -> Object:
    """Return the part `extra_info` of the benchmark that measured a record."""
    info = CaseInfo(
        cnnperf=SCHEMA,
        axes=record.case,
        metrics=dict(record.values),
        groups=tuple(map(len, record.groups)),
        stopped=record.stopped,
        findings=record.findings,
        processes=record.processes,
        seconds=record.seconds,
        ranks=dict(record.ranks),
        block=record.block,
        ratios=record.ratios,
    )
    return _plain(info)


def facts_of(run: Run) -> Object:
    """Return the part `cnnperf` of a run file: everything but the cases."""
    facts = Facts(
        schema=SCHEMA,
        suite=run.suite,
        planned=run.planned,
        smallest_difference=run.smallest_difference,
        step=run.step,
        shard=run.shard,
        of_cases=run.of_cases,
        anchor=run.anchor,
        regressed=run.regressed,
        hosts=run.hosts,
        environment=dict(run.environment),
        ceilings={device: dict(rates) for device, rates in run.ceilings.items()},
        not_measured=run.not_measured,
        findings=run.findings,
        wall_seconds=run.wall_seconds,
        compile_seconds=run.compile_seconds,
        round_seconds=run.round_seconds,
    )
    return _plain(facts)


def complete(document: MutableMapping[str, Any], run: Run) -> None:
    """Add cnnperf's record of a run to a document that pytest-benchmark has written.

    Args:
        document: Document with the benchmarks; changed in place. Benchmarks of other suites, and keys of `extra_info`
            that others have written, stay as they are.
        run: The run with the same benchmarks.
    """
    records = {record.test: record for record in run.cases}
    for benchmark in document["benchmarks"]:
        if benchmark["fullname"] in records:
            benchmark["extra_info"].update(extra_info(records[benchmark["fullname"]]))
    document["cnnperf"] = facts_of(run)


def _plain(record: msgspec.Struct) -> Object:
    plain: Object = msgspec.to_builtins(record)
    return plain
