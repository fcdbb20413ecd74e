"""CUDA beside the CPU: for each network a row a device and form, their ratio, best batches, crossover and copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnperf.report.device_columns import BRIEF_TABLES, COPIED, LEGEND, MARK, STATE, TABLES, TIMES, WIDE_TABLES, Layout
from cnnperf.report.device_notes import Runs, form_of, header_texts, label_of, notes_of, run_number, title_of
from cnnperf.report.layout import WIDTH, Row, escape, grid, printable, shorten, wrap
from cnnperf.runs.device_records import DeviceBlock, DeviceRow
from cnnperf.runs.devices import device_blocks
from cnnperf.units import ABSENT

MOST_BLOCKS = 4
"""Networks and phases of which a terminal gets every table and note; of more it gets one table."""
MORE = "  intervals, memory, clocks, best batches, crossovers, copies and notes of all: `cnnperf report --md FILE`"
TITLE = "Devices: one call on CUDA and on the CPU"


@dataclass(frozen=True)
class DeviceSection:
    """The section for Markdown and HTML, as plain texts.

    Attributes:
        machine: Sentences above the tables, one a run.
        tables: Caption, header and rows of each table.
        notes: Sentences below the tables.
    """

    machine: list[str]
    tables: list[tuple[str, Row, list[Row]]]
    notes: list[str]


def device_lines(runs: Runs) -> list[str]:
    """Return the section of a terminal's summary; none where nothing was measured on CUDA.

    Args:
        runs: A name and the run it belongs to; rows of several runs stand together, without a ratio between them.
    """
    blocks = device_blocks(runs)
    if not blocks:
        return []
    lines = ["", TITLE, *_wrapped(header_texts(runs, blocks))]
    brief = len(blocks) > MOST_BLOCKS
    lines += [line for layout in (BRIEF_TABLES if brief else TABLES) for line in _table(runs, blocks, layout)]
    lines += _wrapped(_unmeasured(blocks))
    if brief:
        lines += wrap(MORE, rest="    ")
    for title, notes in () if brief else notes_of(runs, blocks):
        lines += [title, *_wrapped(notes)]
    lines += [line for text in LEGEND for line in wrap(text, rest="")]
    return [shorten(printable(line), WIDTH) for line in lines]


def device_section(runs: Runs) -> DeviceSection | None:
    """Return the section as plain texts with every interval, None where nothing was measured on CUDA."""
    blocks = device_blocks(runs)
    if not blocks:
        return None
    tables = [table for layout in WIDE_TABLES if (table := _wide(runs, blocks, layout))[2]]
    notes = [f"{title}: {note}" for title, texts in notes_of(runs, blocks) for note in texts]
    return DeviceSection(header_texts(runs, blocks), tables, [*_unmeasured(blocks), *notes])


def device_markdown(runs: Runs) -> str:
    """Return the section as Markdown, empty where nothing was measured on CUDA."""
    section = device_section(runs)
    if section is None:
        return ""
    parts = [f"**{TITLE}**", "\n".join(f"- {escape(text)}" for text in section.machine)]
    for caption, header, rows in section.tables:
        rule = ("---",) * len(header)
        lines = [header, rule, *rows]
        parts += [f"{caption}:"] if caption else []
        parts.append("\n".join(f"| {' | '.join(map(escape, line))} |" for line in lines))
    parts.append("\n".join(f"- {escape(note)}" for note in section.notes))
    return "\n\n".join([*filter(None, parts), escape(" ".join(LEGEND))])


def _wide(runs: Runs, blocks: Sequence[DeviceBlock], layout: Layout) -> tuple[str, Row, list[Row]]:
    """Return a table with the names of network, row and case, and without the columns that no row has a value for."""
    rows = [row for block in blocks for row in block.rows if layout.shown(row)]
    columns = [column for column in layout.columns if any(column.cell(row) not in {"", ABSENT} for row in rows)]
    header = ("network", "row", "case", *(column.name for column in columns), "to doubt")
    cells = [
        (
            title_of(row.case),
            _label(runs, row, layout),
            form_of(row.case),
            *(column.cell(row) for column in columns),
            "; ".join(layout.doubts(row)),
        )
        for row in rows
    ]
    return layout.caption, header, cells


def _table(runs: Runs, blocks: Sequence[DeviceBlock], layout: Layout) -> list[str]:
    rows: list[Row | str] = []
    for block in blocks:
        shown = [row for row in block.rows if layout.shown(row)]
        rows += [title_of(block.case)] if shown else []
        rows += [(_label(runs, row, layout), *(column.cell(row) for column in layout.columns)) for row in shown]
    lines = grid(("", *(column.name for column in layout.columns)), rows)
    return [layout.caption, *lines] if layout.caption and lines else lines


def _label(runs: Runs, row: DeviceRow, layout: Layout) -> str:
    return f"{run_number(runs, row.run)}{label_of(row)}{MARK if layout.doubts(row) else ''}"


def _unmeasured(blocks: Sequence[DeviceBlock]) -> list[str]:
    """Return a sentence with the columns that no row of CUDA has a value for."""
    on_cuda = [row for block in blocks for row in block.rows if row.case.device_type == "cuda"]
    columns = (*TIMES, *STATE[:-1], *COPIED)
    names = [column.name for column in columns if all(column.cell(row) == ABSENT for row in on_cuda)]
    return [f"not measured on CUDA in any case: {', '.join(names)}"] if names and on_cuda else []


def _wrapped(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in wrap(f"  {text}", rest="    ")]
