"""The table of a scaling run: throughput by number of processes, communication, and the slowest process."""

from __future__ import annotations

from collections.abc import Sequence

from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.cases import rate_text
from cnnperf.report.layout import Row, escape, grid, pipe_table, wrap
from cnnperf.runs.ranks import slowest_rank
from cnnperf.units import ABSENT, format_percent, format_quantity

KINDS = ("weak", "strong")
HEADER = ("", "processes", "batch", "step", "images/s", "efficiency", "exchanged", "waiting")
LEGEND = (
    "batch: of each process; weak: each has the batch of the one alone, strong: they share it; efficiency: images/s "
    "over those of one process times their number, with as many threads each; exchanged: bytes that one process hands "
    "to the others in a step; waiting: part of a step that is gone without communication"
)


def scaling_lines(run: Run) -> list[str]:
    """Return the table for a terminal; empty where the run has no case on several processes."""
    records = scaling_records(run)
    if not records:
        return []
    facts = run.environment
    processes = f"{facts.get('world_size', 'several')} processes ({facts.get('backend', '')})"
    rows: list[Row | str] = []
    for name in dict.fromkeys(record.case.architecture for record in records):
        own = [record for record in records if record.case.architecture == name]
        rows += [name, *((f"  {_kind(record)}", *_cells(record)) for record in own), *slowest_lines(own, run.hosts)]
    return ["", f"Training on {processes}, {_threads(records)}", *grid(HEADER, rows), *wrap(LEGEND)]


def scaling_markdown(run: Run) -> str:
    """Return the table as Markdown, with the number of timed rounds; empty where there is none."""
    records = scaling_records(run)
    if not records:
        return ""
    rows: list[Row] = [("architecture", "scaling", *HEADER[1:], "n")]
    for record in records:
        rounds = str(record.values["latency"].rounds)
        rows.append((escape(record.case.architecture), _kind(record), *_cells(record), rounds))
    return f"{pipe_table(rows, left=2)}\n\n{LEGEND}; n: timed rounds; {_threads(records)}."


def scaling_records(run: Run) -> list[CaseRecord]:
    """Return the cases of networks that were trained on several processes, including those on one process."""
    names = {record.case.architecture for record in run.cases if record.case.world_size > 1}
    return [record for record in run.cases if record.case.architecture in names and record.ranks]


def slowest_lines(records: Sequence[CaseRecord], hosts: Sequence[str]) -> list[str]:
    """Name the slowest process of one network, by steps of weak scaling without communication."""
    lines = []
    for record in records:
        slowest = slowest_rank(record) if "weak_efficiency" in record.values else None
        if slowest is not None and slowest.sure:
            where = f" on {hosts[slowest.rank]}" if len(set(hosts)) > 1 and slowest.rank < len(hosts) else ""
            longer = f"process {slowest.rank}{where}, which computes {_share(slowest.excess)} longer"
            lines.append(f"  slowest of {slowest.of}: {longer}")
        elif slowest is not None:
            lines.append(f"  none of {slowest.of} processes is surely slower than the others")
    return lines


def _kind(record: CaseRecord) -> str:
    return next((name for name in KINDS if f"{name}_efficiency" in record.values), "alone")


def _cells(record: CaseRecord) -> Row:
    values, case = record.values, record.case
    efficiency = values.get(f"{_kind(record)}_efficiency")
    moved, waiting = values.get("communicated"), values.get("communication_share")
    return (
        str(case.world_size),
        str(case.batch),
        format_quantity(values["latency"].value, "s"),
        rate_text(values["throughput"].value),
        ABSENT if efficiency is None else _share(efficiency),
        ABSENT if moved is None else format_quantity(moved.value, "B"),
        ABSENT if waiting is None else _share(waiting),
    )


def _share(value: Value) -> str:
    if value.low is None or value.high is None:
        return format_percent(value.value)
    return f"{format_percent(value.value)} [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def _threads(records: Sequence[CaseRecord]) -> str:
    counts = sorted({record.case.threads for record in records})
    return f"{', '.join(map(str, counts))} thread{'s' * (counts != [1])} each"
