"""The figures of a README: Markdown made from runs, between two marks in the document."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cnnperf.errors import RunFileError
from cnnperf.records.run import CaseRecord, Run
from cnnperf.report.cases import Format, distinct, format_of, format_text, quantity_text, rate_text, ratio_text
from cnnperf.report.devices import device_markdown
from cnnperf.report.fusion import fusion_markdown
from cnnperf.report.layout import escape, pipe_table
from cnnperf.report.machine import machine_facts
from cnnperf.report.notes import ratio_notes
from cnnperf.report.scaling import scaling_markdown
from cnnperf.report.view import RunView
from cnnperf.runs.ratios import value_of
from cnnperf.units import ABSENT, format_quantity

BEGIN = "<!-- figures:begin -->"
END = "<!-- figures:end -->"

_TEXTS = ("architecture", "phase", "engine", "device")
_NUMBERS = ("batch", "latency", "n", "images/s", "peak memory", "speed-up")


def figures(runs: Iterable[tuple[str, Run]]) -> str:
    """Return the Markdown of some runs.

    Args:
        runs: Names and runs.

    Returns:
        For each run a line that names machine, versions and commit, and a table with one row per case; then the devices
        of all runs side by side, where one was measured on CUDA; at the end what the ratios mean.
    """
    views = [RunView(run, name) for name, run in runs]
    sections = [section for view in views for section in _sections(view)]
    devices = device_markdown([(view.name, view.run) for view in views])
    notes = dict.fromkeys(note for view in views for note in ratio_notes(view))
    return "\n\n".join(filter(None, [*sections, devices, escape(" ".join(notes))]))


def replace_figures(text: str, markdown: str) -> str:
    """Return a document with everything between its two marks replaced.

    Raises:
        RunFileError: If the document has not exactly one pair of marks, in order.
    """
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(between.findall(text)) != 1 or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RunFileError(f"the document needs one line {BEGIN!r} and after it one line {END!r}, for the figures")
    return between.sub(lambda _: f"{BEGIN}\n\n{markdown}\n\n{END}", text)


def _sections(view: RunView) -> list[str]:
    run = view.run
    when = "" if run.time is None else f", {run.time:%Y-%m-%d}"
    title = f"**{escape(view.name)}** (commit {escape(run.commit or 'unknown')}{when})"
    machine = escape("; ".join(machine_facts(run)))
    tables = [
        f"{escape(format_text(stored))}; n is the number of timed rounds:\n\n{_table(view, stored)}"
        for stored in distinct(view.single, format_of)
    ]
    fusion = [fusion_markdown(view.forms)] if view.forms else []
    scaling = [table] if (table := scaling_markdown(run)) else []
    return [f"{title}, {machine}.", *tables, *scaling, *fusion]


def _table(view: RunView, stored: Format) -> str:
    rows = [_row(view, record) for record in view.single.values() if format_of(record.case) == stored]
    return pipe_table([(*_TEXTS, *_NUMBERS), *rows], left=len(_TEXTS))


def _row(view: RunView, record: CaseRecord) -> tuple[str, ...]:
    case, latency = record.case, value_of(record, "latency")
    return (
        *map(escape, (case.architecture, case.phase, case.engine, case.device)),
        str(case.batch),
        f"{quantity_text(latency, 's')}{' !' if record.findings else ''}",
        ABSENT if latency.rounds is None else str(latency.rounds),
        rate_text(value_of(record, "throughput").value),
        format_quantity(value_of(record, "peak_memory").value, "B"),
        ratio_text(view.ratio(case.replace(engine="eager"), case)),
    )
