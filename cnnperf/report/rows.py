"""What the charts show, as plain rows: one dictionary a mark, values in SI units but for memory, which is in MiB."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cnnperf.records.case import AXIS_BY_NAME, Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import Run
from cnnperf.report.cases import distinct, format_of, ratio_text, share_text, value_of
from cnnperf.runs.pairs import DEVICE, ENGINE, PART, UNSURE, Cases, Pair, Share

if TYPE_CHECKING:
    from cnnperf.runs.series import Change, Series

Row = dict[str, str | int | float | None]

MIB = 2**20
MEMORY_PARTS = ("parameter", "gradient", "optimizer", "activation", "other")
DIGITS = 5  # significant ones in the page: more than any measurement here has
_INTERVALS = ("latency", "throughput")


def case_rows(cases: Cases) -> list[Row]:
    """Return a row a case: its axes, its values with their intervals, and the first reason for doubt."""
    name = Namer(cases)
    rows: list[Row] = []
    for case, record in cases.items():
        row: Row = {**axes_of(case), "row": name(case)}
        for metric in _INTERVALS:
            row |= _interval(metric, value_of(cases, case, metric))
        flop, traffic = (value_of(cases, case, metric).value for metric in ("flop", "traffic"))
        row |= {
            "flop_rate": rounded(value_of(cases, case, "flop_rate").value),
            "intensity": rounded(flop / traffic) if traffic > 0 else None,
            "break_even": rounded(value_of(cases, case, "break_even").value),
            "doubt": "; ".join(finding.seen for finding in record.findings) or "none",
        }
        rows.append(row)
    return rows


def memory_rows(cases: Cases) -> list[Row]:
    """Return a row a case and part of its memory at the peak."""
    name = Namer(cases)
    return [
        {
            **axes_of(case),
            "row": f"{case.engine} {name(case)}",
            "part": part,
            "order": order,
            "mib": rounded(held / MIB),
        }
        for case in cases
        for order, part in enumerate(MEMORY_PARTS)
        if not math.isnan(held := value_of(cases, case, f"{part}_memory").value)
    ]


def ratio_rows(cases: Cases, pairs: Sequence[Pair], shares: Sequence[Share]) -> list[Row]:
    """Return a row a ratio between two cases, break-even of compilation, and share that an improvement takes back."""
    name = Namer(cases)
    names: dict[str, Callable[[Pair], str]] = {
        ENGINE: lambda pair: name(pair.subject),
        DEVICE: lambda pair: _with_batch(pair.subject),
        PART: lambda pair: f"{pair.numerator.architecture} over {pair.denominator.architecture}",
    }
    shown = [pair for pair in pairs if pair.kind != ENGINE or pair.numerator.engine == "eager"]
    ratios = [_pair_row(pair, names[pair.kind](pair)) for pair in shown]
    break_evens = [row for case in cases for row in _break_even(cases, case, name)]
    return [*ratios, *break_evens, *(_share_row(share) for share in shares if math.isfinite(share.share.value))]


def _break_even(cases: Cases, case: Case, name: Namer) -> list[Row]:
    calls = value_of(cases, case, "break_even")
    if not math.isfinite(calls.value):
        return []
    return [_ratio_row("break_even", case, name(case), calls, f"{calls.value:,.0f} calls", seen=True)]


def _pair_row(pair: Pair, name: str) -> Row:
    row = _ratio_row(pair.kind, pair.subject, name, pair.ratio, ratio_text(pair.ratio), seen=pair.verdict != UNSURE)
    return row if pair.question is None else {**row, "question": pair.question.title}


def _share_row(share: Share) -> Row:
    text = share_text(share.share)
    return _ratio_row("recovery", share.subject, _with_batch(share.subject), share.share, text, seen=share.sure)


def _ratio_row(kind: str, case: Case, name: str, quotient: Value, text: str, *, seen: bool) -> Row:
    low, high = (None if end is None else rounded(end) for end in (quotient.low, quotient.high))
    return {
        **axes_of(case),
        "kind": kind,
        "row": name,
        "ratio": rounded(quotient.value),
        "low": low,
        "high": high,
        "told": text,
        "seen": "difference seen" if seen else "no difference seen",
    }


def _with_batch(case: Case) -> str:
    return f"{case.architecture}, batch {case.batch}"


def ceiling_rows(run: Run) -> list[Row]:
    """Return a row a device and matrix-product ceiling: rates, and the intensity where the two ceilings meet."""
    return [
        {
            "device": device,
            "name": f"{device} {name.removeprefix('matmul_rate_')}",
            "bandwidth": rates["copy_bandwidth"],
            "rate": rate,
            "knee": rate / rates["copy_bandwidth"],
        }
        for device, rates in run.ceilings.items()
        for name, rate in rates.items()
        if name.startswith("matmul_rate_") and _positive(rate) and _positive(rates.get("copy_bandwidth", math.nan))
    ]


def round_rows(run: Run) -> dict[str, list[list[float | None]]]:
    """Return the raw rounds in seconds by the id of the case, one list a memory placement."""
    return {
        record.case.id(): [[rounded(seconds) for seconds in group] for group in record.groups]
        for record in run.cases
        if record.groups
    }


def history_data(series: Sequence[Series], changes: Sequence[Change]) -> dict[str, Any]:
    """Return the runs once, and of each series which runs it has, its values, and its shifts by the place in it.

    Long histories are what most of a page would be, so that nothing is written twice.
    """
    runs = {point.run: point.commit or "unknown" for one in series for point in one.points}
    places = {run: place for place, run in enumerate(runs)}
    return {
        "runs": list(runs.items()),
        "series": [
            {
                "name": _series_name(one),
                "runs": [places[point.run] for point in one.points],
                "values": [rounded(point.value) for point in one.points],
                "shifts": {
                    str(one.points.index(change.first)): _shift_text(change)
                    for change in changes
                    if change.series is one
                },
            }
            for one in series
        ],
    }


def shift_rows(changes: Sequence[Change]) -> list[Row]:
    """Return a row a level shift: its series, what it was, and the first commit that surely is at the new level."""
    return [
        {
            "series": _series_name(change.series),
            "shift": _shift_text(change),
            "commit": change.first.commit or "unknown",
        }
        for change in changes
    ]


def rounded(value: float) -> float | None:
    """Return a number with the digits that a page needs; None for one that is not finite: JSON has no word for it."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _series_name(series: Series) -> str:
    machine = ", ".join(f"{value}" for name, value in series.machine if name in ("cpu_model", "gpu_model", "machine"))
    return f"{series.case.label()} on {machine}"


def _shift_text(change: Change) -> str:
    return f"{change.ratio - 1:+.1%} after {change.last.commit or change.last.run}"


def axes_of(case: Case) -> Row:
    """Return the axes of a case, its id and its label."""
    return {"id": case.id(), "label": case.label(), **case.axes()}


def _interval(metric: str, value: Value) -> Row:
    ends = {"low": value.low, "high": value.high}
    row: Row = {metric: rounded(value.value), f"{metric}_rounds": value.rounds}
    return row | {f"{metric}_{name}": None if end is None else rounded(end) for name, end in ends.items()}


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
