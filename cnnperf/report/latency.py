"""The main tables: for each device a line an architecture and phase, eager and compiled side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.report.cases import Format, distinct, format_of, format_text, phases_of, ratio_text, value_of
from cnnperf.report.layout import WIDTH, Row, grid, shorten, wrap
from cnnperf.report.view import RunView
from cnnperf.runs.pairs import Cases
from cnnperf.units import ABSENT, format_percent, format_quantity

MARK = "!"
"""What stands behind a latency that has a finding."""

_DOUBT = len(f" ±2.1%{MARK}")  # columns, so that the signs line up


@dataclass(frozen=True)
class Table:
    """Contents of one table.

    Attributes:
        device: Of all its cases.
        stored: Precision, layout and image size of all its cases.
        engine: What the rates and memory are shown for.
        other: The engine that is compared with it, or None.
    """

    device: str
    stored: Format
    engine: str
    other: str | None

    def caption(self) -> str:
        """Return the line above the table."""
        return f"{self.device}: {format_text(self.stored)}"

    def header(self) -> Row:
        """Return the names of the columns."""
        other = ("", "") if self.other is None else (self.other, "speed-up")
        return ("", f"{self.engine} ", "images/s", "queued", "memory", "ceiling", f"{other[0]} ", other[1])

    def row(self, view: RunView, case: Case) -> Row:
        """Return the cells of the case with this phase and batch, without regard to its engine."""
        cases = view.single
        main, other = (case.replace(engine=engine) for engine in (self.engine, self.other or ""))
        return (
            case.phase,
            _latency(cases, main),
            _images(cases, main, "throughput"),
            _images(cases, main, "queued_throughput"),
            format_quantity(value_of(cases, main, "peak_memory").value, "B"),
            format_percent(value_of(cases, main, "ceiling_fraction").value),
            _latency(cases, other),
            ratio_text(view.ratio(main, other)),
        )


def latency_tables(view: RunView) -> list[str]:
    """Return a table for each device and stored format, and a line that explains them."""
    cases = view.single
    lines = [line for table in _tables(cases) for line in _render(table, view)]
    return [*lines, *_legend(cases)] if lines else []


def _tables(cases: Cases) -> Iterator[Table]:
    for device, stored in distinct(cases, lambda case: (case.device, format_of(case))):
        among = [case for case in cases if (case.device, format_of(case)) == (device, stored)]
        engines = distinct(among, lambda case: case.engine)
        main = "eager" if "eager" in engines else engines[0]
        others: list[str | None] = [engine for engine in engines if engine != main]
        for other in others or [None]:
            yield Table(device, stored, main, other)


def _render(table: Table, view: RunView) -> list[str]:
    cases = view.single
    among = [case for case in cases if (case.device, format_of(case)) == (table.device, table.stored)]
    rows: list[Row | str] = []
    for architecture, batch in distinct(among, lambda case: (case.architecture, case.batch)):
        group = [case for case in among if (case.architecture, case.batch) == (architecture, batch)]
        rows.append(_heading(cases, group))
        rows += [table.row(view, group[0].replace(phase=phase)) for phase in phases_of(group)]
    return ["", table.caption(), *grid(table.header(), rows)]


def _heading(cases: Cases, group: list[Case]) -> str:
    counts = [value_of(cases, case, "parameters").value for case in group]
    known = [count for count in counts if not math.isnan(count)]
    parameters = f", {format_quantity(known[0], '1')} parameters" if known else ""
    facts = f", batch {group[0].batch}{parameters}"
    return shorten(group[0].architecture, WIDTH - len(facts)) + facts


def _latency(cases: Cases, case: Case) -> str:
    latency = value_of(cases, case, "latency")
    if math.isnan(latency.value):
        return f"{ABSENT:<{_DOUBT + 1}}"
    doubt = "" if math.isnan(latency.half_width) else f" ±{format_percent(latency.half_width)}"
    mark = MARK if cases[case].findings else ""
    return f"{format_quantity(latency.value, 's')}{f'{doubt}{mark}':<{_DOUBT}}"


def _images(cases: Cases, case: Case, metric: str) -> str:
    return format_quantity(value_of(cases, case, metric).value, "images/s").removesuffix("images/s").rstrip()


def _legend(cases: Cases) -> list[str]:
    """Explain only what is there to see."""
    queued = any("queued_throughput" in record.values for record in cases.values())
    compared = len(distinct(cases, lambda case: case.engine)) > 1
    notes = [
        (True, "ceiling: share of the nearer of copy bandwidth and matmul rate."),
        (queued, "queued: images/s with a full queue of calls."),
        (compared, "speed-up: latency of the first engine over that of the second."),
        (compared, "unsure: the interval includes 1, no difference seen."),
        (any(record.findings for record in cases.values()), f"{MARK}: doubtful, see the findings."),
    ]
    return ["", *wrap(" ".join(text for shown, text in notes if shown), rest="")]
