"""The answers of a run in a few sentences, each from its numbers, with how far they are to be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnperf.records.run import Run
from cnnperf.report.cases import distinct, ratio_text
from cnnperf.report.view import RunView
from cnnperf.runs.pairs import ABOVE, BELOW, ENGINE, QUESTIONS, UNSURE, Pair

MOST_REASONS = 2
FUSION_ONLY = "This run holds the fusion benchmark alone, whose tables `cnnperf show` prints"


def headline(view: RunView) -> list[str]:
    """Return sentences: what was measured, what compiling and Squeeze-and-Excitation do, and what is to be doubted."""
    cases, run = view.cases, view.run
    if not cases and view.forms:
        return [f"{FUSION_ONLY}."]
    if not cases:
        return [f"No case was measured{f': {run.not_measured[0].reason}' if run.not_measured else ''}."]
    networks = distinct(cases, lambda case: case.architecture)
    devices = ", ".join(distinct(cases, lambda case: case.device))
    measured = f"{_count(len(cases), 'case')} of {_count(len(networks), 'network')} measured on {devices}"
    missing = "".join(f"; not measured: {reason}" for reason in _reasons(run))
    return [f"{measured}{missing}.", *_compiling(view.pairs), *_costs(view.pairs), *_doubts(run)]


def _reasons(run: Run) -> list[str]:
    reasons = list(dict.fromkeys(one.reason for one in run.not_measured))
    more = len(reasons) - MOST_REASONS
    return reasons[:MOST_REASONS] + ([f"{_count(more, 'reason')} more"] if more > 0 else [])


def _compiling(pairs: Sequence[Pair]) -> list[str]:
    against_eager = [pair for pair in pairs if pair.kind == ENGINE and pair.numerator.engine == "eager"]
    if not against_eager:
        return []
    counts = Counter(pair.verdict for pair in against_eager)
    number = _count(len(against_eager), "case")
    surely = f"Compiling is surely faster in {counts[ABOVE]} of {number}, slower in {counts[BELOW]}"
    return [f"{surely}; in {counts[UNSURE]} no difference is seen."]


def _costs(pairs: Sequence[Pair]) -> list[str]:
    """Return the cost of each part in a training step, or in whatever phase there is, uncompiled."""
    sentences = []
    for question in QUESTIONS:
        eager = [pair for pair in pairs if pair.question == question and pair.subject.engine == "eager"]
        pair = next((one for one in eager if one.subject.phase == "train"), eager[0] if eager else None)
        if pair is not None:
            title = f"{question.title[0].upper()}{question.title[1:]}"
            networks = f"{question.candidate} over {question.baseline}"
            sentences.append(f"{title}: {networks} is {ratio_text(pair.ratio)} ({pair.subject.phase}, eager).")
    return sentences


def _doubts(run: Run) -> list[str]:
    doubtful = sum(bool(record.findings) for record in run.cases)
    if not doubtful and not run.findings:
        return ["Nothing was found that speaks against these numbers."]
    wide = f", and {_count(len(run.findings), 'finding')} about the machine" if run.findings else ""
    return [f"{_count(doubtful, 'case')} with something to doubt{wide}."]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
