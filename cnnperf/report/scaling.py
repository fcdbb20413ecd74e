"""The table of a scaling run: how throughput grows with processes, what they exchange, and which is the slowest."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import islice

from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.layout import Row, escape, grid, wrap
from cnnperf.stats.median import median_interval
from cnnperf.units import ABSENT, format_percent, format_quantity

KINDS = ("weak", "strong")
SILENT = "without_communication"
HEADER = ("", "processes", "batch", "step", "images/s", "efficiency", "exchanged", "waiting")
LEGEND = (
    "batch: of each process; weak: each has the batch of the one alone, strong: they share it; efficiency: images/s "
    "over those of one process times their number, with as many threads each; exchanged: bytes that one process hands "
    "to the others in a step; waiting: part of a step that is gone without communication"
)


def scaling_lines(run: Run) -> list[str]:
    """Return the table for a terminal, none where the run has no case on several processes."""
    records = scaling_records(run)
    if not records:
        return []
    facts = run.environment
    processes = f"{facts.get('world_size', 'several')} processes ({facts.get('backend', '')})"
    title = f"Training on {processes}, {_threads(records)}"
    rows: list[Row | str] = []
    for name, own in _by_architecture(records).items():
        rows += [name, *((f"  {_kind(record)}", *_cells(record)) for record in own), *slowest_lines(own, run.hosts)]
    return ["", title, *grid(HEADER, rows), *wrap(LEGEND)]


def scaling_markdown(run: Run) -> str:
    """Return the same table as Markdown, with the number of timed rounds; empty where there is none."""
    records = scaling_records(run)
    if not records:
        return ""
    header = ("architecture", "scaling", *HEADER[1:], "n")
    rows = ((escape(one.case.architecture), _kind(one), *_cells(one), _rounds(one)) for one in records)
    rule = ("---", "---", *("---:" for _ in header[2:]))
    table = "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))
    return f"{table}\n\n{LEGEND}; n: timed rounds; {_threads(records)}."


def scaling_records(run: Run) -> list[CaseRecord]:
    """Return the cases of networks that were trained on several processes, those of one process among them."""
    names = {record.case.architecture for record in run.cases if record.case.world_size > 1}
    return [record for record in run.cases if record.case.architecture in names and record.ranks]


def slowest_lines(records: Sequence[CaseRecord], hosts: Sequence[str]) -> list[str]:
    """Name the process of one network that computes longest, by steps of weak scaling without communication."""
    weak = [record for record in records if "weak_efficiency" in record.values]
    return [f"  {line}" for record in weak for line in _slowest(record, hosts)]


def _slowest(record: CaseRecord, hosts: Sequence[str]) -> list[str]:
    ranks = record.ranks.get(SILENT, ())
    if len(ranks) < 2:  # noqa: PLR2004 - of one there is no slowest
        return []
    medians = [statistics.median(seconds) for seconds in ranks]
    slowest = max(range(len(ranks)), key=medians.__getitem__)
    others = [statistics.median(rest) for rest in zip(*(ranks[:slowest] + ranks[slowest + 1 :]), strict=True)]
    ratios = iter([own / other for own, other in zip(ranks[slowest], others, strict=True)])
    longer = median_interval([list(islice(ratios, len(group))) for group in record.groups])
    if longer.low is None or longer.low <= 1:
        return [f"none of {len(ranks)} processes is surely slower than the others"]
    where = f" on {hosts[slowest]}" if len(set(hosts)) > 1 and slowest < len(hosts) else ""
    return [f"slowest of {len(ranks)}: process {slowest}{where}, which computes {_share(_less_one(longer))} longer"]


def _less_one(value: Value) -> Value:
    low, high = (None if end is None else end - 1 for end in (value.low, value.high))
    return Value(value.value - 1, low, high)


def _by_architecture(records: Sequence[CaseRecord]) -> dict[str, list[CaseRecord]]:
    grouped: dict[str, list[CaseRecord]] = {}
    for record in records:
        grouped.setdefault(record.case.architecture, []).append(record)
    return grouped


def _kind(record: CaseRecord) -> str:
    return next((name for name in KINDS if f"{name}_efficiency" in record.values), "alone")


def _rounds(record: CaseRecord) -> str:
    return str(record.values["latency"].rounds)


def _cells(record: CaseRecord) -> Row:
    values, case = record.values, record.case
    efficiency = values.get(f"{_kind(record)}_efficiency")
    moved, waiting = values.get("communicated"), values.get("communication_share")
    return (
        str(case.world_size),
        str(case.batch),
        format_quantity(values["latency"].value, "s"),
        format_quantity(values["throughput"].value, "images/s").removesuffix("images/s").rstrip(),
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
