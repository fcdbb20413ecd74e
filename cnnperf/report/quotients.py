"""Ratios between cases of one run as rows of charts: by engine, by device, by a part of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import Run
from cnnperf.report.cases import Cases, ratio_text, value_of
from cnnperf.report.comparisons import QUESTIONS, RECOVERIES, share_text
from cnnperf.report.rows import Namer, Row, axes_of, cases_of, rounded
from cnnperf.report.sweeps import crossover_text
from cnnperf.runs.sweeps import rivals_of
from cnnperf.stats.ratio import ratio, recovered_share


def ratio_rows(run: Run) -> list[Row]:
    """Return a row for each pair of cases that differ in one thing: engine, device, or a part of the network.

    Beside them stand what compiling needs to pay, and what of a part's cost is taken back.
    """
    cases = cases_of(run)
    return [*_engines(cases), *_break_evens(cases), *_devices(cases), *_questions(cases), *_recoveries(cases)]


def crossover(run: Run) -> list[str]:
    """Return a sentence for each network, phase and engine: from which batch on CUDA surely is faster than the CPU."""
    found = [rivals for rivals in rivals_of(cases_of(run), least=1) if rivals.metric == "device_crossover"]
    named = [(rivals.challenger.case, crossover_text(rivals)) for rivals in found if rivals.crossover.most]
    return [f"{case.architecture}, {case.phase}: {sentence}" for case, sentence in named]


def _engines(cases: Cases) -> Iterator[Row]:
    name = Namer(cases)
    for case in cases:
        if case.engine != "eager" and (eager := case.replace(engine="eager")) in cases:
            quotient = ratio(value_of(cases, eager, "latency"), value_of(cases, case, "latency"))
            yield _ratio("engine", case, name(case), quotient)


def _break_evens(cases: Cases) -> Iterator[Row]:
    name = Namer(cases)
    for case in cases:
        if math.isfinite((calls := value_of(cases, case, "break_even")).value):
            told = f"{calls.value:,.0f} calls"
            yield {**_ratio("break_even", case, name(case), calls), "told": told, "seen": "difference seen"}


def _devices(cases: Cases) -> Iterator[Row]:
    for case in cases:
        if case.device_type == "cuda" and (on_cpu := case.replace(device="cpu")) in cases:
            quotient = ratio(value_of(cases, on_cpu, "latency"), value_of(cases, case, "latency"))
            yield _ratio("device", case, f"{case.architecture}, batch {case.batch}", quotient)


def _questions(cases: Cases) -> Iterator[Row]:
    for question in QUESTIONS:
        for case in cases:
            other = case.replace(architecture=question.baseline)
            if case.architecture == question.candidate and other in cases:
                quotient = ratio(value_of(cases, case, "latency"), value_of(cases, other, "latency"))
                row = _ratio("cost", case, f"{question.candidate} over {question.baseline}", quotient)
                yield {**row, "question": question.title}


def _recoveries(cases: Cases) -> Iterator[Row]:
    for recovery in RECOVERIES:
        for case in cases:
            names = (recovery.plain, recovery.costly, recovery.improved)
            others = [case.replace(architecture=name) for name in names]
            if case.architecture == recovery.improved and all(other in cases for other in others):
                share = recovered_share(*(value_of(cases, other, "latency") for other in others))
                if math.isfinite(share.value):
                    seen = "difference seen" if share.low and share.high and share.low * share.high > 0 else "none seen"
                    row = _ratio("recovery", case, f"{case.architecture}, batch {case.batch}", share)
                    yield {**row, "told": share_text(share), "seen": seen}


def _ratio(kind: str, case: Case, name: str, quotient: Value) -> Row:
    ends = (quotient.low, quotient.high)
    low, high = (None if end is None else rounded(end) for end in ends)
    told = ratio_text(quotient)
    return {
        **axes_of(case),
        "kind": kind,
        "row": name,
        "ratio": rounded(quotient.value),
        "low": low,
        "high": high,
        "told": told,
        "seen": "no difference seen" if told.startswith("unsure") else "difference seen",
    }
