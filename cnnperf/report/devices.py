"""CUDA beside the CPU: for each network a row per device and form, with ratio, best batch, crossover and copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnperf.report.device_columns import BRIEF_TABLES, COPIED, LEGEND, MARK, STATE, TABLES, TIMES, WIDE_TABLES, Layout
from cnnperf.report.device_notes import Runs, form_of, header_texts, label_of, notes_of, title_of
from cnnperf.report.layout import WIDTH, Row, escape, grid, pipe_table, printable, shorten, wrap
from cnnperf.runs.device_records import DeviceBlock, DeviceRow
from cnnperf.runs.devices import device_blocks
from cnnperf.units import ABSENT

MOST_BLOCKS = 4
"""Most networks and phases for which a terminal shows every table and note; beyond that it shows one table."""
MORE = "  intervals, memory, clocks, best batches, crossovers, copies and notes of all: `cnnperf report --md FILE`"
TITLE = "Devices: one call on CUDA and on the CPU"


@dataclass(frozen=True)
class DeviceSection:
    """Text of the section for Markdown and HTML.

    Attributes:
        machine: Sentences above the tables, one per run.
        tables: Caption, header and rows of each table.
        notes: Sentences below the tables.
    """

    machine: list[str]
    tables: list[tuple[str, Row, list[Row]]]
    notes: list[str]


def device_lines(runs: Runs) -> list[str]:
    """Return the section for a terminal; empty where nothing was measured on CUDA.

    Args:
        runs: Names and runs. Rows of several runs are shown together, without a ratio between them.
    """
    blocks = device_blocks(runs)
    if not blocks:
        return []
    brief = len(blocks) > MOST_BLOCKS
    lines = ["", TITLE, *_wrapped(header_texts(runs, blocks))]
    for layout in BRIEF_TABLES if brief else TABLES:
        lines += _table(runs, blocks, layout)
    lines += _wrapped(_unmeasured(blocks))
    if brief:
        lines += wrap(MORE, rest="    ")
    else:
        for title, notes in notes_of(runs, blocks):
            lines += [title, *_wrapped(notes)]
    for text in LEGEND:
        lines += wrap(text, rest="")
    return [shorten(printable(line), WIDTH) for line in lines]


def device_section(runs: Runs) -> DeviceSection | None:
    """Return the section for Markdown and HTML, with every interval; None where nothing was measured on CUDA."""
    blocks = device_blocks(runs)
    if not blocks:
        return None
    tables = [_wide(runs, blocks, layout) for layout in WIDE_TABLES]
    notes = [f"{title}: {note}" for title, texts in notes_of(runs, blocks) for note in texts]
    return DeviceSection(
        header_texts(runs, blocks), [table for table in tables if table[2]], [*_unmeasured(blocks), *notes]
    )


def device_markdown(runs: Runs) -> str:
    """Return the section as Markdown; empty where nothing was measured on CUDA."""
    section = device_section(runs)
    if section is None:
        return ""
    parts = [f"**{TITLE}**", "\n".join(f"- {escape(text)}" for text in section.machine)]
    for caption, header, rows in section.tables:
        parts += [f"{caption}:"] if caption else []
        parts.append(pipe_table([[escape(cell) for cell in row] for row in (header, *rows)], left=len(header)))
    parts.append("\n".join(f"- {escape(note)}" for note in section.notes))
    return "\n\n".join([*filter(None, parts), escape(" ".join(LEGEND))])


def _wide(runs: Runs, blocks: Sequence[DeviceBlock], layout: Layout) -> tuple[str, Row, list[Row]]:
    """Return a table with the names of network, row and case, without the columns that are empty in every row."""
    rows = [row for block in blocks for row in block.rows if layout.shown(row)]
    columns = {
        name: cell for name, cell in layout.columns.items() if any(cell(row) not in {"", ABSENT} for row in rows)
    }
    cells = []
    for row in rows:
        names = title_of(row.case), _label(runs, row, layout), form_of(row.case)
        cells.append((*names, *(cell(row) for cell in columns.values()), "; ".join(layout.doubts(row))))
    return layout.caption, ("network", "row", "case", *columns, "to doubt"), cells


def _table(runs: Runs, blocks: Sequence[DeviceBlock], layout: Layout) -> list[str]:
    rows: list[Row | str] = []
    for block in blocks:
        shown = [row for row in block.rows if layout.shown(row)]
        rows += [title_of(block.case)] if shown else []
        rows += [(_label(runs, row, layout), *(cell(row) for cell in layout.columns.values())) for row in shown]
    lines = grid(("", *layout.columns), rows)
    return [layout.caption, *lines] if layout.caption and lines else lines


def _label(runs: Runs, row: DeviceRow, layout: Layout) -> str:
    return f"{label_of(runs, row)}{MARK if layout.doubts(row) else ''}"


def _unmeasured(blocks: Sequence[DeviceBlock]) -> list[str]:
    """Return a sentence with the columns for which no row of CUDA has a value."""
    on_cuda = [row for block in blocks for row in block.rows if row.case.device_type == "cuda"]
    columns = TIMES | STATE | COPIED
    names = [name for name, cell in columns.items() if all(cell(row) == ABSENT for row in on_cuda)]
    return [f"not measured on CUDA in any case: {', '.join(names)}"] if names and on_cuda else []


def _wrapped(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in wrap(f"  {text}", rest="    ")]
