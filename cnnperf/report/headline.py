"""The main results of a run in a few sentences, each with its uncertainty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnperf.records.run import Run
from cnnperf.report.cases import count_text, distinct, ratio_text
from cnnperf.report.view import RunView
from cnnperf.runs.pairs import ENGINE, FASTER, QUESTIONS, SLOWER, Pair
from cnnperf.stats.simultaneous import SAME, UNKNOWN, UNSURE

MOST_REASONS = 2
UNDECIDED = {SAME: "the same", UNSURE: "unsure", UNKNOWN: "without an interval"}
"""Descriptions of the cases that are neither surely faster nor surely slower, by verdict."""
COMPARED = {FASTER: "is faster than", SLOWER: "is slower than", SAME: "is as fast as"}
"""Comparison of two networks by verdict."""
FUSION_ONLY = "This run holds the fusion benchmark alone, whose tables `cnnperf show` prints"


def headline(view: RunView) -> list[str]:
    """Return sentences about what was measured, compiling, the cost of parts, and findings."""
    cases, run = view.cases, view.run
    if not cases and view.forms:
        return [f"{FUSION_ONLY}."]
    if not cases:
        return [f"No case was measured{f': {run.not_measured[0].reason}' if run.not_measured else ''}."]
    networks = distinct(cases, lambda case: case.architecture)
    devices = ", ".join(distinct(cases, lambda case: case.device))
    measured = f"{count_text(len(cases), 'case')} of {count_text(len(networks), 'network')} measured on {devices}"
    missing = "".join(f"; not measured: {reason}" for reason in _reasons(run))
    return [f"{measured}{missing}.", *_compiling(view.pairs), *_costs(view.pairs), *_doubts(run)]


def _reasons(run: Run) -> list[str]:
    reasons = list(dict.fromkeys(entry.reason for entry in run.not_measured))
    more = len(reasons) - MOST_REASONS
    return reasons[:MOST_REASONS] + ([f"{count_text(more, 'reason')} more"] if more > 0 else [])


def _compiling(pairs: Sequence[Pair]) -> list[str]:
    against_eager = [pair for pair in pairs if pair.kind == ENGINE and pair.ratio.numerator.engine == "eager"]
    if not against_eager:
        return []
    counts = Counter(pair.verdict for pair in against_eager)
    number = count_text(len(against_eager), "case")
    others = [f"{counts[verdict]} {text}" for verdict, text in UNDECIDED.items() if counts[verdict]]
    paired = all(pair.ratio.paired for pair in against_eager)
    seen = f"Compiling {'is surely' if paired else 'seems'} faster in {counts[FASTER]} of {number}"
    parts = [f"{seen} and slower in {counts[SLOWER]}", *([", ".join(others)] if others else [])]
    return [f"{'; '.join(parts)}{'' if paired else ' (not paired)'}."]


def _costs(pairs: Sequence[Pair]) -> list[str]:
    """Return the cost of each part in an eager training step, or in the first phase where none was measured."""
    sentences = []
    for question in QUESTIONS:
        asked = [pair for pair in pairs if pair.cases.question == question and pair.ratio.value.value > 0]
        eager = [pair for pair in asked if pair.subject.engine == "eager"]
        if eager:
            pair = next((pair for pair in eager if pair.subject.phase == "train"), eager[0])
            title = f"{question.title[0].upper()}{question.title[1:]}"
            networks = f"{question.candidate} {COMPARED.get(pair.verdict, 'against')} {question.baseline}"
            sentences.append(f"{title}: {networks}, {ratio_text(pair.ratio)} ({pair.subject.phase}, eager).")
    return sentences


def _doubts(run: Run) -> list[str]:
    doubtful = sum(bool(record.findings) for record in run.cases)
    if not doubtful and not run.findings:
        return ["Nothing was found that speaks against these numbers."]
    machine = f", and {count_text(len(run.findings), 'finding')} about the machine" if run.findings else ""
    return [f"{count_text(doubtful, 'case')} with something to doubt{machine}."]
