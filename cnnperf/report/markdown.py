"""Markdown for a pull request or the summary of a step: the answer, what changed, and the rest folded away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from cnnperf.extras import needs_extra
from cnnperf.records.run import Run
from cnnperf.report.device_columns import LEGEND
from cnnperf.report.device_notes import Runs
from cnnperf.report.devices import TITLE, device_section
from cnnperf.report.headline import headline
from cnnperf.report.layout import escape, shorten
from cnnperf.report.machine import machine_facts
from cnnperf.report.rows import Row
from cnnperf.report.scaling import scaling_markdown
from cnnperf.report.verdicts import ORDER, change_text, headline_of, interval_text, power_text
from cnnperf.report.view import RunView
from cnnperf.runs.verdicts import CaseVerdict, Comparison
from cnnperf.stats.ratio import expm1
from cnnperf.units import ABSENT, format_percent, format_quantity

with needs_extra("report", "Markdown"):
    from tabulate import tabulate

MOST_CHARACTERS = 1000
"""Of one sentence."""

MOST_BYTES = 60 * 1024
"""GitHub takes comments of 65,536 characters."""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header and its rows."""

_UNCHANGED = frozenset({"same"})


def comparison_markdown(result: Comparison) -> str:
    """Return a comparison: headline, counts, what changed, and folded what did not; at most `MOST_BYTES`."""
    counts = Counter(one.verdict for one in result.cases)
    told = " · ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict])
    changed = [one for one in result.cases if one.verdict not in _UNCHANGED]
    parts: list[str | Table] = [
        f"### {escape(shorten(headline_of(result), MOST_CHARACTERS))}",
        *([told] if told else []),
    ]
    if result.wrong or result.counters:
        lines = [f"{label}: wrong result: {reason}" for label, reason in (result.wrong or {}).items()]
        lines += [change_text(change) for change in result.counters]
        parts.append((("counters and results",), [(escape(line),) for line in lines]))
    if changed:
        parts.append(_verdicts(changed, reasons=True))
    parts += [*_folded(f"{counts['same']} cases with the same time", _verdicts(_same(result), reasons=False))]
    if result.environment:
        pairs = [
            (escape(key), escape(f"{one}"), escape(f"{other}")) for key, (one, other) in result.environment.items()
        ]
        parts.append((("environment", "base", "candidate"), pairs))
    return capped([*parts, escape(power_text(result))])


def run_markdown(name: str, run: Run) -> str:
    """Return a run: headline, table of cases, findings folded; at most `MOST_BYTES`."""
    view = RunView(run, name)
    first, *others = headline(view)
    parts: list[str | Table] = [f"### {_sentence(first)}"]
    parts += ["\n".join(f"- {escape(sentence)}" for sentence in others)] if others else []
    when = "" if run.time is None else f", {run.time:%Y-%m-%d %H:%M} UTC"
    parts.append(_sentence(f"Run {name}, commit {run.commit or 'unknown'}{when}. {'; '.join(machine_facts(run))}."))
    rows = [_case(row) for row in view.case_rows]
    parts += [(("case", "latency", "n", "images/s", "to doubt"), rows)] if rows else []
    parts += _devices([(name, run)])
    parts += [scaled] if (scaled := scaling_markdown(run)) else []
    swept = [f"- {_sentence(f'{one.title}: {told}')}" for one in view.sweeps for told in one.sentences]
    parts += ["\n".join(swept)] if swept else []
    against = [*view.not_measured, *(f"{one.seen}{one.advice and f' ({one.advice})'}" for one in view.doubts)]
    if against:
        told = "\n".join(f"- {_sentence(sentence)}" for sentence in against)
        parts.append(f"<details><summary>What to doubt</summary>\n\n{told}\n\n</details>")
    return capped(parts)


def runs_markdown(runs: Runs) -> str:
    """Return some runs: each as `run_markdown` has it, and the rows of their devices together, without any ratio."""
    together = capped(_devices(runs)) if len(runs) > 1 else ""
    return "\n".join([*(run_markdown(name, run) for name, run in runs), *([together] if together.strip() else [])])


def capped(parts: Iterable[str | Table], most: int = MOST_BYTES) -> str:
    """Join parts, tables only as far as there is room, with a count of the rows that were left out."""
    texts: list[str] = []
    given = list(parts)
    left = most - sum(len(part.encode()) + 2 for part in given if isinstance(part, str))
    for part in given:
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
    notes = _listed([*section.notes, *LEGEND])
    return [*parts, f"<details><summary>Notes on the devices</summary>\n\n{notes}\n\n</details>"]


def _listed(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_sentence(sentence)}" for sentence in sentences)


def _sentence(text: str) -> str:
    return escape(shorten(text, MOST_CHARACTERS))


def _table(table: Table, left: int) -> tuple[str, int]:
    """Return as many rows as there is room for, and the room that is left then."""
    header, rows = table
    for shown in _fewer(len(rows)):
        more = len(rows) - shown
        text = tabulate(rows[:shown], header, tablefmt="github", disable_numparse=True)
        text += f"\n\n{more} more rows are left out." if more else ""
        if len(text.encode()) + 2 <= left:
            return text, left - len(text.encode()) - 2
    return f"{len(rows)} rows are left out.", left


def _fewer(count: int) -> Iterable[int]:
    while count > 0:
        yield count
        count = count * 3 // 4


def _folded(summary: str, table: Table) -> list[str | Table]:
    return [f"<details><summary>{summary}</summary>", table, "</details>"] if table[1] else []


def _same(result: Comparison) -> list[CaseVerdict]:
    return [one for one in result.cases if one.verdict in _UNCHANGED]


def _verdicts(cases: Sequence[CaseVerdict], *, reasons: bool) -> Table:
    ordered = sorted(cases, key=lambda one: ORDER.index(one.verdict))
    header = ("case", "verdict", "candidate/base", "base", "n", "visible", *(("why",) if reasons else ()))
    return header, [(*_verdict(one), *((escape(one.reason),) if reasons else ())) for one in ordered]


def _verdict(one: CaseVerdict) -> tuple[str, ...]:
    found, base = one.found, one.base_seconds
    return (
        escape(one.case.label()),
        one.verdict,
        ABSENT if found is None else interval_text(found),
        ABSENT if base is None else format_quantity(base, "s"),
        ABSENT if found is None else str(found.count),
        ABSENT if found is None else f"{expm1(found.visible):+.1%}",
    )


def _case(row: Row) -> tuple[str, ...]:
    latency, low, high = (row[name] for name in ("latency", "latency_low", "latency_high"))
    text = format_quantity(float(latency), "s") if isinstance(latency, float) else ABSENT
    if isinstance(latency, float) and isinstance(low, float) and isinstance(high, float) and latency > 0:
        text += f" ±{format_percent((high - low) / 2 / latency)}"
    rate = row["throughput"]
    return (
        escape(str(row["label"])),
        text,
        str(row["latency_rounds"] or ABSENT),
        format_quantity(float(rate), "images/s") if isinstance(rate, float) else ABSENT,
        "" if row["doubt"] == "none" else escape(str(row["doubt"])),
    )
