"""The table of the fusion benchmark: every form of a part side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnperf.measure.metrics import Value
from cnnperf.report.cases import ratio_text
from cnnperf.report.layout import Row, grid
from cnnperf.units import format_quantity

HEADER = ("", "eager", "compile", "fused", "eager/fused", "compile/fused", "floor")
TITLES = {
    ("se", "forward"): "Squeeze-and-Excitation alone, inference",
    ("se", "train"): "Squeeze-and-Excitation alone, forward and backward",
    ("tail", "forward"): "tail of a block (BatchNorm, SE, shortcut, ReLU), inference",
    ("tail", "train"): "tail of a block, forward and backward",
}
LEGEND = "floor: fused over its least passes at the speed of a copy that ran beside it."


def fusion_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table for a terminal.

    Args:
        records: Those of `measure.parts.measure_cell`, in the order of measuring.
    """
    rows: list[Row | str] = []
    for title, cells in _by_title(records):
        rows += [title, *(_row(cell) for cell in cells)]
    return [*grid(HEADER, rows), "", LEGEND] if rows else []


def fusion_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the same as Markdown, a table for each part and phase."""
    tables = []
    for title, cells in _by_title(records):
        rows = [(*_row(cell), str(cell["rounds"])) for cell in cells]
        lines = [("shape, layout, precision", *HEADER[1:], "n"), ["---"] + ["---:"] * len(HEADER), *rows]
        tables.append(f"{title}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*tables, f"{LEGEND} n: timed rounds of each form."]) if tables else ""


def _by_title(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    titled = [(TITLES[record["part"], "train" if record["trains"] else "forward"], record) for record in records]
    titles = list(dict.fromkeys(title for title, _ in titled))
    return [(title, [record for other, record in titled if other == title]) for title in titles]


def _row(record: Mapping[str, Any]) -> Row:
    shape = "x".join(map(str, record["shape"]))
    seconds = (format_quantity(record["seconds"][form]["value"], "s") for form in HEADER[1:4])
    ratios = (ratio_text(_value(record["over_fused"][form])) for form in HEADER[1:3])
    floor = f"{record['over_floor']['value']:.2f}x"
    return (f"{shape} {record['layout']} {record['precision']}", *seconds, *ratios, floor)


def _value(entry: Mapping[str, float]) -> Value:
    return Value(entry["value"], entry["low"], entry["high"])
