"""Markdown for a pull request or the summary of a step: result and changes first, the rest folded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cnnperf.extras import needs_extra
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.cases import half_width_text
from cnnperf.report.device_columns import LEGEND
from cnnperf.report.device_notes import Runs
from cnnperf.report.devices import TITLE, device_section
from cnnperf.report.headline import headline
from cnnperf.report.layout import escape, shorten
from cnnperf.report.machine import machine_facts
from cnnperf.report.notes import ratio_notes
from cnnperf.report.rows import rounded
from cnnperf.report.scaling import scaling_markdown
from cnnperf.report.verdicts import HEADER, counts_of, headline_of, ordered, power_text, result_lines, verdict_row
from cnnperf.report.view import RunView
from cnnperf.runs.ratios import value_of
from cnnperf.runs.verdicts import CaseVerdict, Comparison
from cnnperf.units import ABSENT, format_quantity

with needs_extra("report", "Markdown"):
    from tabulate import tabulate

MOST_CHARACTERS = 1000
"""Most characters of one sentence."""

MOST_BYTES = 60 * 1024
"""Most bytes of a comment; GitHub accepts 65,536 characters."""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header and its rows."""


def comparison_markdown(result: Comparison) -> str:
    """Return a comparison: headline, counts, what changed, and folded what did not; at most `MOST_BYTES`."""
    parts: list[str | Table] = [f"### {_sentence(headline_of(result))}"]
    parts += [" · ".join(counts)] if (counts := counts_of(result)) else []
    if lines := result_lines(result):
        parts.append((("counters and results",), [(escape(line),) for line in lines]))
    if changed := [case for case in result.cases if case.verdict != "same"]:
        header, rows = _verdicts(changed)
        reasons = [(escape(case.reason),) for case in ordered(changed)]
        parts.append(((*header, "why"), [(*row, *reason) for row, reason in zip(rows, reasons, strict=True)]))
    if same := result.of("same"):
        parts += [f"<details><summary>{len(same)} cases with the same time</summary>", _verdicts(same), "</details>"]
    if result.environment:
        facts = [(key, f"{before}", f"{after}") for key, (before, after) in result.environment.items()]
        parts.append((("environment", "base", "candidate"), [tuple(map(escape, row)) for row in facts]))
    return capped([*parts, escape(power_text(result))])


def run_markdown(name: str, run: Run) -> str:
    """Return a run: headline, table of cases, findings folded; at most `MOST_BYTES`."""
    view = RunView(run, name)
    first, *others = headline(view)
    parts: list[str | Table] = [f"### {_sentence(first)}"]
    parts += ["\n".join(f"- {escape(sentence)}" for sentence in others)] if others else []
    when = "" if run.time is None else f", {run.time:%Y-%m-%d %H:%M} UTC"
    parts.append(_sentence(f"Run {name}, commit {run.commit or 'unknown'}{when}. {'; '.join(machine_facts(run))}."))
    parts += [_sentence(" ".join(notes))] if view.cases and (notes := ratio_notes(view)) else []
    rows = [_case(record) for record in view.cases.values()]
    parts += [(("case", "latency", "n", "images/s", "to doubt"), rows)] if rows else []
    parts += _devices([(name, run)])
    parts += [scaled] if (scaled := scaling_markdown(run)) else []
    swept = [f"{answer.title}: {sentence}" for answer in view.sweeps for sentence in answer.sentences]
    parts += [_listed(swept)] if swept else []
    doubts = [f"{doubt.seen} ({doubt.advice})" if doubt.advice else doubt.seen for doubt in view.doubts]
    against = [*view.not_measured, *doubts]
    parts += [_folded("What to doubt", against)] if against else []
    return capped(parts)


def runs_markdown(runs: Runs) -> str:
    """Return some runs: each as in `run_markdown`, then the rows of their devices together."""
    texts = [run_markdown(name, run) for name, run in runs]
    devices = _devices(runs) if len(runs) > 1 else []
    return "\n".join([*texts, *([capped(devices)] if devices else [])])


def capped(parts: Iterable[str | Table], most: int = MOST_BYTES) -> str:
    """Join parts, shortening tables to `most` bytes in all; the number of omitted rows is stated."""
    whole = list(parts)
    texts: list[str] = []
    left = most - sum(len(part.encode()) + 2 for part in whole if isinstance(part, str))
    for part in whole:
        if isinstance(part, str):
            texts.append(part)
            continue
        text, left = _table(part, left)
        texts.append(text)
    return "\n\n".join(texts) + "\n"


def _devices(runs: Runs) -> list[str | Table]:
    """Return the section about CUDA and the CPU, its notes folded; empty where nothing was measured on CUDA."""
    section = device_section(runs)
    if section is None:
        return []
    parts: list[str | Table] = [f"#### {TITLE}", _listed(section.machine)]
    for caption, header, rows in section.tables:
        parts += [f"{caption}:"] if caption else []
        parts.append((header, [tuple(map(escape, row)) for row in rows]))
    return [*parts, _folded("Notes on the devices", [*section.notes, *LEGEND])]


def _folded(summary: str, sentences: Iterable[str]) -> str:
    return f"<details><summary>{summary}</summary>\n\n{_listed(sentences)}\n\n</details>"


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_sentence(sentence)}" for sentence in sentences)


def _sentence(text: str) -> str:
    return escape(shorten(text, MOST_CHARACTERS))


def _table(table: Table, left: int) -> tuple[str, int]:
    """Return as many rows as fit into `left` bytes, and the bytes that remain then."""
    header, rows = table
    shown = len(rows)
    while shown > 0:
        more = len(rows) - shown
        text = tabulate(rows[:shown], header, tablefmt="github", disable_numparse=True)
        text += f"\n\n{more} more rows are left out." if more else ""
        if len(text.encode()) + 2 <= left:
            return text, left - len(text.encode()) - 2
        shown = shown * 3 // 4
    return f"{len(rows)} rows are left out.", left


def _verdicts(cases: Sequence[CaseVerdict]) -> Table:
    rows = [verdict_row(case) for case in ordered(cases)]
    return ("case", *HEADER[1:]), [(escape(label), *cells) for label, *cells in rows]


def _as_on_the_page(value: Value) -> Value:
    """Return a value with the digits that the page has, so that both write the same number."""
    middle, low, high = (None if end is None else rounded(end) for end in (value.value, value.low, value.high))
    return Value(math.nan if middle is None else middle, low, high, value.rounds)


def _case(record: CaseRecord) -> tuple[str, ...]:
    latency, rate = (_as_on_the_page(value_of(record, metric)) for metric in ("latency", "throughput"))
    return (
        escape(record.case.label()),
        format_quantity(latency.value, "s") + half_width_text(latency),
        str(latency.rounds or ABSENT),
        format_quantity(rate.value, "images/s"),
        escape("; ".join(finding.seen for finding in record.findings)),
    )
