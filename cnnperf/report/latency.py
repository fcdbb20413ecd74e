"""The main tables: for each device a line per architecture and phase, eager and compiled side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.report.cases import (
    Format,
    distinct,
    format_of,
    format_text,
    half_width_text,
    phases_of,
    rate_text,
    ratio_text,
)
from cnnperf.report.layout import WIDTH, Row, grid, shorten, wrap
from cnnperf.report.view import RunView
from cnnperf.runs.ratios import Cases, value_of
from cnnperf.units import ABSENT, format_percent, format_quantity

MARK = "!"
"""Mark behind a latency that has a finding."""

_DOUBT = len(f" ±2.1%{MARK}")  # columns, so that the signs line up


@dataclass(frozen=True)
class Table:
    """Cases of one table.

    Attributes:
        device: Device of all cases.
        stored: Format of all cases.
        engine: Engine whose rates and memory are shown.
        other: Engine that is compared with it, or None.
    """

    device: str
    stored: Format
    engine: str
    other: str | None

    def header(self) -> Row:
        """Return the names of the columns."""
        other = ("", "") if self.other is None else (self.other, "speed-up")
        return ("", f"{self.engine} ", "images/s", "queued", "memory", "ceiling", f"{other[0]} ", other[1])

    def row(self, view: RunView, case: Case) -> Row:
        """Return the cells for the phase and batch of a case."""
        cases = view.single
        main, other = (case.replace(engine=engine) for engine in (self.engine, self.other or ""))
        record = cases.get(main)
        return (
            case.phase,
            _latency(cases, main),
            rate_text(value_of(record, "throughput").value),
            rate_text(value_of(record, "queued_throughput").value),
            format_quantity(value_of(record, "peak_memory").value, "B"),
            format_percent(value_of(record, "ceiling_fraction").value),
            _latency(cases, other),
            ratio_text(view.ratio(main, other)),
        )


def latency_tables(view: RunView) -> list[str]:
    """Return a table for each device and format, and a legend."""
    lines = [line for table in _tables(view.single) for line in _render(table, view)]
    return [*lines, *_legend(view)] if lines else []


def _tables(cases: Cases) -> Iterator[Table]:
    for device, stored in distinct(cases, lambda case: (case.device, format_of(case))):
        own = [case for case in cases if (case.device, format_of(case)) == (device, stored)]
        engines = distinct(own, lambda case: case.engine)
        main = "eager" if "eager" in engines else engines[0]
        others: list[str | None] = [engine for engine in engines if engine != main]
        for other in others or [None]:
            yield Table(device, stored, main, other)


def _render(table: Table, view: RunView) -> list[str]:
    cases = view.single
    own = [case for case in cases if (case.device, format_of(case)) == (table.device, table.stored)]
    rows: list[Row | str] = []
    for architecture, batch in distinct(own, lambda case: (case.architecture, case.batch)):
        group = [case for case in own if (case.architecture, case.batch) == (architecture, batch)]
        rows.append(_heading(cases, group))
        rows += [table.row(view, group[0].replace(phase=phase)) for phase in phases_of(group)]
    return ["", f"{table.device}: {format_text(table.stored)}", *grid(table.header(), rows)]


def _heading(cases: Cases, group: list[Case]) -> str:
    counts = [value_of(cases[case], "parameters").value for case in group]
    known = [count for count in counts if not math.isnan(count)]
    parameters = f", {format_quantity(known[0], '1')} parameters" if known else ""
    facts = f", batch {group[0].batch}{parameters}"
    return shorten(group[0].architecture, WIDTH - len(facts)) + facts


def _latency(cases: Cases, case: Case) -> str:
    latency = value_of(cases.get(case), "latency")
    if math.isnan(latency.value):
        return f"{ABSENT:<{_DOUBT + 1}}"
    mark = MARK if cases[case].findings else ""
    return f"{format_quantity(latency.value, 's')}{half_width_text(latency) + mark:<{_DOUBT}}"


def _legend(view: RunView) -> list[str]:
    """Explain the columns and words that the tables have."""
    cases = view.single
    queued = any("queued_throughput" in record.values for record in cases.values())
    compared = len(distinct(cases, lambda case: case.engine)) > 1
    notes = [
        (True, "ceiling: share of the nearer of copy bandwidth and matmul rate."),
        (queued, "queued: images/s with a full queue of calls."),
        (compared, "speed-up: latency of the first engine over that of the second."),
        (any(record.findings for record in cases.values()), f"{MARK}: doubtful, see the findings."),
    ]
    return ["", *wrap(" ".join(text for shown, text in notes if shown), rest="")]
