"""What the charts show, as plain rows: one dictionary a mark, values in SI units but for memory, which is in MiB."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cnnperf.measure.case import AXIS_BY_NAME, Case
from cnnperf.measure.metrics import Value
from cnnperf.report.cases import Cases, distinct, format_of, ratio_text, value_of
from cnnperf.report.comparisons import QUESTIONS
from cnnperf.runs.history import Change, Series
from cnnperf.runs.ratio import ratio
from cnnperf.runs.records import Run

Row = dict[str, str | int | float | None]

MIB = 2**20
MEMORY_PARTS = ("parameter", "gradient", "optimizer", "activation", "other")
DIGITS = 5  # significant ones in the page: more than any measurement here has
_INTERVALS = ("latency", "throughput")


def cases_of(run: Run) -> Cases:
    """Return the cases of a run by their axes."""
    return {record.case: record for record in run.cases}


def case_rows(run: Run) -> list[Row]:
    """Return a row a case: its axes, its values with their intervals, and the first reason for doubt."""
    cases = cases_of(run)
    name = _namer(cases)
    rows: list[Row] = []
    for case, record in cases.items():
        row: Row = {**_axes(case), "row": name(case)}
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


def memory_rows(run: Run) -> list[Row]:
    """Return a row a case and part of its memory at the peak."""
    cases = cases_of(run)
    name = _namer(cases)
    return [
        {**_axes(case), "row": f"{case.engine} {name(case)}", "part": part, "order": order, "mib": rounded(held / MIB)}
        for case in cases
        for order, part in enumerate(MEMORY_PARTS)
        if not math.isnan(held := value_of(cases, case, f"{part}_memory").value)
    ]


def ratio_rows(run: Run) -> list[Row]:
    """Return a row for each pair of cases that differ in one thing: engine, device, or a part of the network."""
    cases = cases_of(run)
    return [*_engines(cases), *_devices(cases), *_questions(cases)]


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
        if name.startswith("matmul_rate_") and rates.get("copy_bandwidth", 0) > 0
    ]


def round_rows(run: Run) -> dict[str, list[list[float | None]]]:
    """Return the raw rounds in seconds by the id of the case, one list a memory placement."""
    return {
        record.case.id(): [[rounded(seconds) for seconds in group] for group in record.groups]
        for record in run.cases
        if record.groups
    }


def history_rows(series: Sequence[Series], changes: Sequence[Change]) -> list[Row]:
    """Return a row a run of each series, those with which a new level surely began marked."""
    begun = {(id(change.series), change.first.run): change for change in changes}
    return [_history_row(one, number, begun) for one in series for number in range(len(one.points))]


def rounded(value: float) -> float | None:
    """Return a number with the digits that a page needs; None for one that is not finite: JSON has no word for it."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def crossover(run: Run) -> list[str]:
    """Return a sentence for each network and phase: from which batch on CUDA surely is faster than the CPU."""
    rows = [row for row in _devices(cases_of(run)) if row["engine"] == "eager"]
    sentences = []
    for architecture, phase in dict.fromkeys((str(row["architecture"]), str(row["phase"])) for row in rows):
        here = [row for row in rows if (row["architecture"], row["phase"]) == (architecture, phase)]
        faster = sorted(int(row["batch"] or 0) for row in here if isinstance(row["low"], float) and row["low"] > 1)
        told = f"from batch {faster[0]} on, of those measured" if faster else "at no batch that was measured"
        sentences.append(f"{architecture}, {phase}: CUDA is surely faster {told}")
    return sentences


def _history_row(series: Series, number: int, begun: Mapping[tuple[int, str], Change]) -> Row:
    point = series.points[number]
    change = begun.get((id(series), point.run))
    told = "" if change is None else f"{change.ratio - 1:+.1%} after {change.last.commit or change.last.run}"
    machine = ", ".join(f"{value}" for name, value in series.machine if name in ("cpu_model", "gpu_model", "machine"))
    return {
        "series": f"{series.case.label()} on {machine}",
        "number": number,
        "run": point.run,
        "commit": point.commit or "unknown",
        "value": rounded(point.value),
        "shift": told,
        "worse": int(change is not None and change.worse),
    }


def _engines(cases: Cases) -> Iterator[Row]:
    name = _namer(cases)
    for case in cases:
        if case.engine != "eager" and (eager := replace(case, engine="eager")) in cases:
            quotient = ratio(value_of(cases, eager, "latency"), value_of(cases, case, "latency"))
            extra = {"break_even": rounded(value_of(cases, case, "break_even").value)}
            yield {**_ratio("engine", case, name(case), quotient), **extra}


def _devices(cases: Cases) -> Iterator[Row]:
    for case in cases:
        if case.device_type == "cuda" and (on_cpu := replace(case, device="cpu")) in cases:
            quotient = ratio(value_of(cases, on_cpu, "latency"), value_of(cases, case, "latency"))
            yield _ratio("device", case, f"{case.architecture}, batch {case.batch}", quotient)


def _questions(cases: Cases) -> Iterator[Row]:
    for question in QUESTIONS:
        for case in cases:
            other = replace(case, architecture=question.baseline)
            if case.architecture == question.candidate and other in cases:
                quotient = ratio(value_of(cases, case, "latency"), value_of(cases, other, "latency"))
                row = _ratio("cost", case, f"{question.candidate} over {question.baseline}", quotient)
                yield {**row, "question": question.title}


def _ratio(kind: str, case: Case, name: str, quotient: Value) -> Row:
    ends = (quotient.low, quotient.high)
    low, high = (None if end is None else rounded(end) for end in ends)
    told = ratio_text(quotient)
    return {
        **_axes(case),
        "kind": kind,
        "row": name,
        "ratio": rounded(quotient.value),
        "low": low,
        "high": high,
        "told": told,
        "seen": "no difference seen" if told.startswith("unsure") else "difference seen",
    }


def _axes(case: Case) -> Row:
    return {"id": case.id(), "label": case.label(), **case.axes()}


def _interval(metric: str, value: Value) -> Row:
    ends = {"low": value.low, "high": value.high}
    row: Row = {metric: rounded(value.value), f"{metric}_rounds": value.rounds}
    return row | {f"{metric}_{name}": None if end is None else rounded(end) for name, end in ends.items()}


class _Namer:
    """Name a case by its architecture and batch, and by what tells it from others of the run."""

    def __init__(self, cases: Cases) -> None:
        self._devices = len(distinct(cases, lambda case: case.device)) > 1
        self._formats = len(distinct(cases, format_of)) > 1

    def __call__(self, case: Case) -> str:
        words = [case.architecture, f"batch {case.batch}"]
        words += [case.device] if self._devices else []
        if self._formats:
            axes = ("precision", "layout", "image_size")
            words += [str(getattr(case, axis)) for axis in axes if getattr(case, axis) != AXIS_BY_NAME[axis].default]
        return ", ".join(words)


_namer = _Namer
