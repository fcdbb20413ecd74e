"""Data of the charts as plain rows: one dictionary per mark, with values in SI units except memory in MiB."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnperf.records.case import AXIS_BY_NAME, Case
from cnnperf.records.metrics import Value
from cnnperf.report.cases import distinct, format_of, ratio_text, share_text
from cnnperf.runs.pairs import DEVICE, ENGINE, Pair, Share
from cnnperf.runs.ratios import Cases, value_of
from cnnperf.runs.roofline import intensity_of
from cnnperf.stats.simultaneous import ABOVE, BELOW, SAME, UNSURE

if TYPE_CHECKING:
    from cnnperf.runs.series import Change, Series

Row = dict[str, str | int | float | None]

MIB = 2**20
MEMORY_PARTS = ("parameter", "gradient", "optimizer", "activation", "other")
DIFFERENCE_SEEN, ALIKE, NOT_SURE = "difference seen", SAME, UNSURE
SEEN = {ABOVE: DIFFERENCE_SEEN, BELOW: DIFFERENCE_SEEN, SAME: ALIKE}
"""Words of the charts by verdict on a ratio; `NOT_SURE` for those without a row."""
PAIRED = {True: "paired", False: "not paired"}
DIGITS = 5  # significant digits in the page: more than any measurement here has


def case_rows(cases: Cases) -> list[Row]:
    """Return a row per case: its axes, its values with their intervals, and its findings."""
    name = Namer(cases)
    rows: list[Row] = []
    for case, record in cases.items():
        row: Row = {**axes_of(case), "row": name(case)}
        for metric in ("latency", "throughput"):
            value = value_of(record, metric)
            row |= {metric: rounded(value.value), f"{metric}_rounds": value.rounds}
            row |= {f"{metric}_low": _end(value.low), f"{metric}_high": _end(value.high)}
        row |= {
            "flop_rate": rounded(value_of(record, "flop_rate").value),
            "intensity": _end(intensity_of(record)),
            "break_even": rounded(value_of(record, "break_even").value),
            "doubt": "; ".join(finding.seen for finding in record.findings) or "none",
        }
        rows.append(row)
    return rows


def memory_rows(cases: Cases) -> list[Row]:
    """Return a row per case and part of its memory at the peak."""
    name = Namer(cases)
    rows: list[Row] = []
    for case, record in cases.items():
        for order, part in enumerate(MEMORY_PARTS):
            held = value_of(record, f"{part}_memory").value
            if not math.isnan(held):
                row: Row = {**axes_of(case), "row": f"{case.engine} {name(case)}", "part": part, "order": order}
                rows.append(row | {"mib": rounded(held / MIB)})
    return rows


def ratio_rows(cases: Cases, pairs: Sequence[Pair], shares: Sequence[Share]) -> list[Row]:
    """Return a row per ratio, break-even of compilation, and share that an improvement recovers."""
    name = Namer(cases)
    rows: list[Row] = []
    for pair in pairs:
        ratio = pair.ratio
        if pair.kind == ENGINE and ratio.numerator.engine != "eager":
            continue
        label = f"{ratio.numerator.architecture} over {ratio.denominator.architecture}"
        if pair.kind in {ENGINE, DEVICE}:
            label = name(pair.subject) if pair.kind == ENGINE else _with_batch(pair.subject)
        seen = SEEN.get(ratio.verdict, NOT_SURE)
        row = _ratio_row(pair.kind, pair.subject, label, ratio.value, ratio_text(ratio), seen)
        row["paired"] = PAIRED[ratio.paired]
        question = pair.cases.question
        rows.append(row if question is None else {**row, "question": question.title})
    for case, record in cases.items():
        calls = value_of(record, "break_even")
        if math.isfinite(calls.value):
            rows.append(_ratio_row("break_even", case, name(case), calls, f"{calls.value:,.0f} calls", DIFFERENCE_SEEN))
    for share in shares:
        if math.isfinite(share.share.value):
            label, seen = _with_batch(share.subject), DIFFERENCE_SEEN if share.sure else NOT_SURE
            row = _ratio_row("recovery", share.subject, label, share.share, share_text(share), seen)
            rows.append(row | {"paired": PAIRED[share.paired]})
    return rows


def _ratio_row(kind: str, case: Case, name: str, quotient: Value, text: str, seen: str) -> Row:
    """Return the row of a mark, whose value is not a ratio of two cases unless `paired` is replaced."""
    return {
        **axes_of(case),
        "kind": kind,
        "row": name,
        "ratio": rounded(quotient.value),
        "low": _end(quotient.low),
        "high": _end(quotient.high),
        "told": text,
        "seen": seen,
        "paired": "",
    }


def _with_batch(case: Case) -> str:
    return f"{case.architecture}, batch {case.batch}"


def round_rows(cases: Cases) -> dict[str, list[list[float | None]]]:
    """Return the raw rounds in seconds by id of the case, one list per memory placement."""
    return {
        record.case.id(): [[rounded(seconds) for seconds in group] for group in record.groups]
        for record in cases.values()
        if record.groups
    }


def history_data(series: Sequence[Series], changes: Sequence[Change]) -> Mapping[str, Any]:
    """Return the runs once, and for each series the numbers of its runs, its values, and its shifts by place.

    Long histories are most of a page, so that nothing is written twice.
    """
    runs = {point.run: point.commit or "unknown" for line in series for point in line.points}
    numbers = {run: number for number, run in enumerate(runs)}
    entries = []
    for line in series:
        own = [change for change in changes if change.series is line]
        entry = {
            "name": _series_name(line),
            "runs": [numbers[point.run] for point in line.points],
            "values": [rounded(point.value) for point in line.points],
            "shifts": {str(line.points.index(change.first)): _shift_text(change) for change in own},
        }
        entries.append(entry)
    return {"runs": list(runs.items()), "series": entries}


def shift_rows(changes: Sequence[Change]) -> list[Row]:
    """Return a row per level shift: its series, its size, and the first commit that surely is at the new level."""
    return [
        {
            "series": _series_name(change.series),
            "shift": _shift_text(change),
            "commit": change.first.commit or "unknown",
        }
        for change in changes
    ]


def rounded(value: float) -> float | None:
    """Return a number with the digits that a page needs; None for one that is not finite, which JSON cannot hold."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _end(value: float | None) -> float | None:
    return None if value is None else rounded(value)


def _series_name(series: Series) -> str:
    machine = ", ".join(f"{value}" for name, value in series.machine if name in ("cpu_model", "gpu_model", "machine"))
    return f"{series.case.label()} on {machine}"


def _shift_text(change: Change) -> str:
    return f"{change.ratio - 1:+.1%} after {change.last.commit or change.last.run}"


def axes_of(case: Case) -> Row:
    """Return the axes of a case, its id and its label."""
    return {"id": case.id(), "label": case.label(), **case.axes()}


class Namer:
    """Names of cases: architecture and batch, and what distinguishes a case from others of the run."""

    def __init__(self, cases: Cases) -> None:
        self._devices = len(distinct(cases, lambda case: case.device)) > 1
        self._formats = len(distinct(cases, format_of)) > 1

    def __call__(self, case: Case) -> str:
        """Return the name of a case."""
        words = [case.architecture, f"batch {case.batch}"]
        words += [case.device] if self._devices else []
        if self._formats:
            axes = ("precision", "layout")
            words += [str(getattr(case, axis)) for axis in axes if getattr(case, axis) != AXIS_BY_NAME[axis].default]
            words += case.sizes()
        return ", ".join(words)
