"""Ratios between cases of one run: CUDA against CPU, and the cost of a part of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnperf.records.case import Case
from cnnperf.report.cases import distinct, format_of, format_text, phases_of, ratio_text, share_text
from cnnperf.report.layout import WIDTH, Row, grid, shorten
from cnnperf.report.view import RunView
from cnnperf.runs.pairs import DEVICE, QUESTIONS, RECOVERIES, Pair
from cnnperf.units import ABSENT

Block = tuple[str, Mapping[Case, str], Callable[[Case], str]]
"""Heading, texts by case, and the function that names the line of a case."""


def device_comparison(view: RunView) -> list[str]:
    """Return the ratio of each CUDA case to the CPU case with the same other axes."""
    texts = _ratios(pair for pair in view.single_pairs if pair.kind == DEVICE)
    blocks: list[Block] = []
    for architecture, batch in distinct(texts, _network):
        facts = f", batch {batch}"
        own = {case: text for case, text in texts.items() if _network(case) == (architecture, batch)}
        heading = shorten(architecture, WIDTH - len(facts)) + facts
        blocks.append((heading, own, lambda case: f"{case.device} {case.engine}"))
    return _section("CUDA against CPU (latency on the CPU over latency on CUDA)", blocks)


def cost_comparison(view: RunView) -> list[str]:
    """Return the cost of each part, and the shares of costs that improvements recover."""
    blocks: list[Block] = []
    for question in QUESTIONS:
        texts = _ratios(pair for pair in view.single_pairs if pair.cases.question == question)
        blocks.append((f"{question.title}: {question.candidate} / {question.baseline}", texts, _setting))
    for recovery in RECOVERIES:
        shares = [share for share in view.shares if share.recovery == recovery and share.subject in view.single]
        known = {share.subject: share_text(share) for share in shares if not math.isnan(share.share.value)}
        blocks.append((recovery.title, known, _setting))
    return _section("What it costs (latency of the first over latency of the second; above 1 is slower)", blocks)


def _ratios(pairs: Iterable[Pair]) -> Mapping[Case, str]:
    return {pair.subject: ratio_text(pair.ratio) for pair in pairs if not math.isnan(pair.ratio.value.value)}


def _network(case: Case) -> tuple[str, int]:
    return case.architecture, case.batch


def _setting(case: Case) -> str:
    return f"{case.device} {case.engine} batch {case.batch}"


def _section(title: str, blocks: Sequence[Block]) -> list[str]:
    """Lay out a table for each format: a heading per block, a line per setting, a column per phase."""
    cases = [case for _, texts, _ in blocks for case in texts]
    formats = distinct(cases, format_of)
    phases = phases_of(cases)
    lines: list[str] = []
    for stored in formats:
        rows: list[Row | str] = []
        for heading, texts, label in blocks:
            own = {case: text for case, text in texts.items() if format_of(case) == stored}
            block_rows = _rows(own, phases, label)
            rows += [shorten(heading, WIDTH), *block_rows] if block_rows else []
        table = grid(("", *phases), rows)
        lines += [format_text(stored), *table] if len(formats) > 1 and table else table
    return ["", title, *lines] if lines else []


def _rows(texts: Mapping[Case, str], phases: list[str], label: Callable[[Case], str]) -> list[Row]:
    rows = []
    for name in distinct(texts, label):
        by_phase = {case.phase: text for case, text in texts.items() if label(case) == name}
        rows.append((name, *(by_phase.get(phase, ABSENT) for phase in phases)))
    return rows
