"""The answers of a run in a few sentences, each from its numbers, with how far they are to be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnperf.records.run import Run
from cnnperf.report.cases import distinct
from cnnperf.report.quotients import ratio_rows
from cnnperf.report.rows import Row, cases_of

MOST_REASONS = 2
FUSION_ONLY = "This run holds the fusion benchmark alone, whose tables `cnnperf show` prints"


def headline(run: Run) -> list[str]:
    """Return sentences: what was measured, what compiling and Squeeze-and-Excitation do, and what is to be doubted."""
    cases = cases_of(run)
    if not cases and run.fusion:
        return [f"{FUSION_ONLY}."]
    if not cases:
        return [f"No case was measured{f': {run.not_measured[0].reason}' if run.not_measured else ''}."]
    networks = distinct(cases, lambda case: case.architecture)
    devices = ", ".join(distinct(cases, lambda case: case.device))
    measured = f"{_count(len(cases), 'case')} of {_count(len(networks), 'network')} measured on {devices}"
    missing = "".join(f"; not measured: {reason}" for reason in _reasons(run))
    ratios = ratio_rows(run)
    return [f"{measured}{missing}.", *_compiling(ratios), *_costs(ratios), *_doubts(run)]


def _reasons(run: Run) -> list[str]:
    reasons = list(dict.fromkeys(one.reason for one in run.not_measured))
    more = len(reasons) - MOST_REASONS
    return reasons[:MOST_REASONS] + ([f"{_count(more, 'reason')} more"] if more > 0 else [])


def _compiling(ratios: Sequence[Row]) -> list[str]:
    rows = [row for row in ratios if row["kind"] == "engine"]
    if not rows:
        return []
    told = Counter(_told(row) for row in rows)
    surely = f"Compiling is surely faster in {told['above']} of {_count(len(rows), 'case')}, slower in {told['below']}"
    return [f"{surely}; in {told['unsure']} no difference is seen."]


def _costs(ratios: Sequence[Row]) -> list[str]:
    """Tell what each part costs in a training step, or in whatever phase there is, uncompiled."""
    rows = [row for row in ratios if row["kind"] == "cost" and row["engine"] == "eager"]
    sentences = []
    for question in dict.fromkeys(str(row["question"]) for row in rows):
        of_question = [row for row in rows if row["question"] == question]
        row = next((row for row in of_question if row["phase"] == "train"), of_question[0])
        sentences.append(f"{question[0].upper()}{question[1:]}: {row['row']} is {row['told']} ({row['phase']}, eager).")
    return sentences


def _doubts(run: Run) -> list[str]:
    doubtful = sum(bool(record.findings) for record in run.cases)
    if not doubtful and not run.findings:
        return ["Nothing was found that speaks against these numbers."]
    wide = f", and {_count(len(run.findings), 'finding')} about the machine" if run.findings else ""
    return [f"{_count(doubtful, 'case')} with something to doubt{wide}."]


def _told(row: Row) -> str:
    if row["seen"] != "difference seen":
        return "unsure"
    return "above" if float(row["ratio"] or 0) > 1 else "below"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
