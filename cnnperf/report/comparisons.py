"""Ratios between cases of one run: CUDA against CPU, and what a part of a network costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.report.cases import Cases, distinct, format_of, format_text, phases_of, ratio_text, value_of
from cnnperf.report.layout import WIDTH, Row, grid, shorten
from cnnperf.stats.ratio import ratio, recovered_share
from cnnperf.units import ABSENT, format_percent

Cell = Callable[[Case], str]


@dataclass(frozen=True)
class Question:
    """Ask what one architecture costs over another that differs in one thing.

    Attributes:
        title: What differs.
        candidate: The architecture that has it.
        baseline: The architecture that does without.
    """

    title: str
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Recovery:
    """Ask how much of a cost an improvement takes back.

    Attributes:
        title: What is taken back.
        plain: The architecture without the cost.
        costly: The architecture with it.
        improved: The architecture that computes the same for less.
    """

    title: str
    plain: str
    costly: str
    improved: str


QUESTIONS = (
    Question("Squeeze-and-Excitation", "se_resnet18", "resnet18"),
    Question("identity shortcuts", "residual_stack", "plain_stack"),
    Question("max instead of average pooling", "lenet5", "lenet5_avg"),
    Question("fused instead of textbook Squeeze-and-Excitation", "se_resnet18_fused", "se_resnet18"),
)
RECOVERIES = (
    Recovery(
        "share of Squeeze-and-Excitation's cost that fusion recovers", "resnet18", "se_resnet18", "se_resnet18_fused"
    ),
)


def device_comparison(cases: Cases) -> list[str]:
    """Return how many times faster each CUDA case is than the CPU case with the same other axes."""

    def cell(case: Case) -> str:
        on_cpu = value_of(cases, case.replace(device="cpu"), "latency")
        return ratio_text(ratio(on_cpu, value_of(cases, case, "latency")))

    paired = [case for case in cases if case.device_type == "cuda" and case.replace(device="cpu") in cases]
    blocks = [
        (_named(case_architecture, f", batch {batch}"), among, lambda case: f"{case.device} {case.engine}", cell)
        for case_architecture, batch in distinct(paired, lambda case: (case.architecture, case.batch))
        for among in [[case for case in paired if (case.architecture, case.batch) == (case_architecture, batch)]]
    ]
    return _section("CUDA against CPU (latency on the CPU over latency on CUDA)", blocks)


def cost_comparison(cases: Cases) -> list[str]:
    """Return what each question's candidate costs over its baseline, and what improvements take back."""
    blocks = [*(_question(cases, question) for question in QUESTIONS), *(_recovery(cases, row) for row in RECOVERIES)]
    return _section("What it costs (latency of the first over latency of the second; above 1 is slower)", blocks)


Block = tuple[str, list[Case], Callable[[Case], str], Cell]


def _question(cases: Cases, question: Question) -> Block:
    def cell(case: Case) -> str:
        baseline = value_of(cases, case.replace(architecture=question.baseline), "latency")
        return ratio_text(ratio(value_of(cases, case, "latency"), baseline))

    paired = _complete(cases, question.candidate, [question.baseline])
    return f"{question.title}: {question.candidate} / {question.baseline}", paired, _setting, cell


def _recovery(cases: Cases, recovery: Recovery) -> Block:
    def cell(case: Case) -> str:
        names = (recovery.plain, recovery.costly, recovery.improved)
        latencies = (value_of(cases, case.replace(architecture=name), "latency") for name in names)
        return share_text(recovered_share(*latencies))

    return recovery.title, _complete(cases, recovery.improved, [recovery.plain, recovery.costly]), _setting, cell


def _complete(cases: Cases, candidate: str, others: Iterable[str]) -> list[Case]:
    """Return the candidate's cases for which all others were measured alike."""
    names = list(others)
    own = [case for case in cases if case.architecture == candidate]
    return [case for case in own if all(case.replace(architecture=name) in cases for name in names)]


def _setting(case: Case) -> str:
    return f"{case.device} {case.engine} batch {case.batch}"


def _section(title: str, blocks: Sequence[Block]) -> list[str]:
    """Lay out a table for each stored format: a heading a block, a line a setting, a column a phase."""
    everything = [case for _, among, _, _ in blocks for case in among]
    formats = distinct(everything, format_of)
    phases = phases_of(everything)
    lines: list[str] = []
    for stored in formats:
        rows: list[Row | str] = []
        for heading, among, label, cell in blocks:
            here = [case for case in among if format_of(case) == stored]
            block_rows = _rows(here, phases, label, cell)
            rows += [shorten(heading, WIDTH), *block_rows] if block_rows else []
        table = grid(("", *phases), rows)
        lines += [format_text(stored), *table] if len(formats) > 1 and table else table
    return ["", title, *lines] if lines else []


def _rows(among: list[Case], phases: list[str], label: Callable[[Case], str], cell: Cell) -> list[Row]:
    rows = []
    for name in distinct(among, label):
        by_phase = {case.phase: cell(case) for case in among if label(case) == name}
        if any(text != ABSENT for text in by_phase.values()):
            rows.append((name, *(by_phase.get(phase, ABSENT) for phase in phases)))
    return rows


def _named(architecture: str, facts: str) -> str:
    return shorten(architecture, WIDTH - len(facts)) + facts


def share_text(share: Value) -> str:
    """Return a share with its interval."""
    if math.isnan(share.value) or share.low is None or share.high is None:
        return format_percent(share.value)
    return f"{format_percent(share.value)} [{format_percent(share.low)}, {format_percent(share.high)}]"
