"""Ratios between cases of one run: CUDA against CPU, and what a part of a network costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cnnperf.records.case import Case
from cnnperf.report.cases import distinct, format_of, format_text, phases_of, ratio_text, share_text
from cnnperf.report.layout import WIDTH, Row, grid, shorten
from cnnperf.report.view import RunView
from cnnperf.runs.pairs import DEVICE, QUESTIONS, RECOVERIES, Question, Recovery
from cnnperf.units import ABSENT

Cell = Callable[[Case], str]


def device_comparison(view: RunView) -> list[str]:
    """Return how many times faster each CUDA case is than the CPU case with the same other axes."""
    cells = {pair.subject: ratio_text(pair.ratio) for pair in view.single_pairs if pair.kind == DEVICE}
    blocks = [
        (_named(architecture, f", batch {batch}"), among, lambda case: f"{case.device} {case.engine}")
        for architecture, batch in distinct(cells, _network)
        for among in [{case: text for case, text in cells.items() if _network(case) == (architecture, batch)}]
    ]
    return _section("CUDA against CPU (latency on the CPU over latency on CUDA)", blocks)


def cost_comparison(view: RunView) -> list[str]:
    """Return what each question's candidate costs over its baseline, and what improvements take back."""
    blocks = [*(_question(view, question) for question in QUESTIONS), *(_recovery(view, row) for row in RECOVERIES)]
    return _section("What it costs (latency of the first over latency of the second; above 1 is slower)", blocks)


Block = tuple[str, Mapping[Case, str], Callable[[Case], str]]
"""Heading, texts by case, and the name of a case's line."""


def _question(view: RunView, question: Question) -> Block:
    pairs = [pair for pair in view.single_pairs if pair.question == question]
    heading = f"{question.title}: {question.candidate} / {question.baseline}"
    return heading, {pair.subject: ratio_text(pair.ratio) for pair in pairs}, _setting


def _recovery(view: RunView, recovery: Recovery) -> Block:
    shares = [share for share in view.shares if share.recovery == recovery and share.subject in view.single]
    return recovery.title, {share.subject: share_text(share.share) for share in shares}, _setting


def _network(case: Case) -> tuple[str, int]:
    return case.architecture, case.batch


def _setting(case: Case) -> str:
    return f"{case.device} {case.engine} batch {case.batch}"


def _section(title: str, blocks: Sequence[Block]) -> list[str]:
    """Lay out a table for each stored format: a heading a block, a line a setting, a column a phase."""
    everything = [case for _, among, _ in blocks for case in among]
    formats = distinct(everything, format_of)
    phases = phases_of(everything)
    lines: list[str] = []
    for stored in formats:
        rows: list[Row | str] = []
        for heading, among, label in blocks:
            here = {case: text for case, text in among.items() if format_of(case) == stored}
            block_rows = _rows(here, phases, label)
            rows += [shorten(heading, WIDTH), *block_rows] if block_rows else []
        table = grid(("", *phases), rows)
        lines += [format_text(stored), *table] if len(formats) > 1 and table else table
    return ["", title, *lines] if lines else []


def _rows(texts: Mapping[Case, str], phases: list[str], label: Callable[[Case], str]) -> list[Row]:
    rows = []
    for name in distinct(texts, label):
        by_phase = {case.phase: text for case, text in texts.items() if label(case) == name}
        if any(text != ABSENT for text in by_phase.values()):
            rows.append((name, *(by_phase.get(phase, ABSENT) for phase in phases)))
    return rows


def _named(architecture: str, facts: str) -> str:
    return shorten(architecture, WIDTH - len(facts)) + facts
