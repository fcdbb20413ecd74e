"""The tables of the fusion benchmark: every form of a part side by side, and what SE adds to a part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cnnperf.records.metrics import Value
from cnnperf.report.cases import UNPAIRED, ratio_text
from cnnperf.report.layout import Row, escape, grid
from cnnperf.runs.forms import COMPILE, COST_OF_SE, EAGER, FUSED, FUSED_COMPILE, OWN, FormRow
from cnnperf.runs.ratios import Ratio
from cnnperf.units import ABSENT, format_factor, format_percent, format_quantity

PARTS = {
    "se": "Squeeze-and-Excitation alone",
    "tail": "tail (BatchNorm, SE, shortcut, ReLU)",
    "block": "block (two 3x3 convolutions, SE, shortcut)",
    "network": "ResNet-18 with SE",
}
IMAGE_CHANNELS = 3
PHASES = {"forward": "inference", "train": "training"}
FORMS = (EAGER, COMPILE, FUSED, FUSED_COMPILE)
LEGEND_OF_DEVICES = (
    "; replayed: device time of calls captured in a CUDA graph, over more buffers than fit the cache; "
    "expected: the least passes at the speed of the copy."
)
LEGEND = (
    "eager, compile: the textbook formula; fused: ours; fused-compile: ours within torch.compile of the whole part; "
    "what SE adds: over the same part without, run in the same way; "
    "in inference `fused` also gains from a BatchNorm and ReLU in one, which that part has not; "
    "floor: fused over its least passes at the speed of a copy that ran beside it"
)


@dataclass(frozen=True)
class Table:
    """One kind of table.

    Attributes:
        suffix: Text after the title.
        header: Names of the columns after the shape.
        cells: Function that returns the cells of a row.
    """

    suffix: str
    header: Row
    cells: Callable[[FormRow], Row]


def fusion_lines(rows: Sequence[FormRow]) -> list[str]:
    """Return the tables for a terminal; none without rows."""
    lines: list[str] = []
    for title, table, chosen in _tables(rows):
        lines += ["", title, *grid(("", *table.header), [(_shape(row), *table.cells(row)) for row in chosen])]
    return [*lines, "", *_legend(rows).split("; ")] if lines else []


def fusion_markdown(rows: Sequence[FormRow]) -> str:
    """Return the same tables as Markdown."""
    tables = [_markdown(*each) for each in _tables(rows)]
    return "\n\n".join([*tables, f"{_legend(rows)} n: timed rounds of each form."])


def _legend(rows: Sequence[FormRow]) -> str:
    return LEGEND + (LEGEND_OF_DEVICES if any(row.replayed for row in rows) else ".")


def _markdown(title: str, table: Table, rows: Sequence[FormRow]) -> str:
    cells = [table.cells(row) for row in rows]
    filled = [index for index in range(len(table.header)) if any(each[index] != ABSENT for each in cells)]
    header = ("shape", *(table.header[index] for index in filled), "n")
    rule = ("---", *("---:" for _ in header[1:]))
    body = [
        (_shape(row), *(each[index] for index in filled), str(_rounds(row)))
        for row, each in zip(rows, cells, strict=True)
    ]
    return f"{escape(title)}:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *body))


def _rounds(row: FormRow) -> int | str:
    fused = row.seconds(FUSED)
    return ABSENT if fused is None or fused.rounds is None else fused.rounds


def _tables(rows: Sequence[FormRow]) -> Iterator[tuple[str, Table, list[FormRow]]]:
    """Yield each table that has cells: its title, its kind and its rows."""
    for title in dict.fromkeys(map(_title, rows)):
        chosen = [row for row in rows if _title(row) == title]
        for table in (TIMES, EXPECTED, _libraries(chosen), COST):
            if any(cell != ABSENT for row in chosen for cell in table.cells(row)):
                yield title + table.suffix, table, chosen


def _title(row: FormRow) -> str:
    case = row.case
    words = [PARTS.get(row.part, row.part), PHASES.get(case.phase, case.phase), case.precision, case.layout]
    words += [] if case.device == "cpu" else [case.device]
    return ", ".join([*words, "replayed"] if row.replayed else words)


def _shape(row: FormRow) -> str:
    channels = row.case.width or IMAGE_CHANNELS
    return "x".join(map(str, (row.case.batch, channels, row.case.image_size, row.case.image_size)))


def _time_cells(row: FormRow) -> Row:
    times = (_time(row.seconds(form)) for form in FORMS)
    alike = row.ratio(COMPILE, FUSED_COMPILE)  # where both were compiled, that is the comparison
    compiled = row.ratio(COMPILE, FUSED) if alike is None else None
    floor = row.over_floor()
    ratios = (ratio_text(ratio) for ratio in (row.ratio(EAGER, FUSED), compiled, alike))
    return (*times, *ratios, ABSENT if floor is None else f"{format_factor(floor.value)}x")


def _time(value: Value | None) -> str:
    return ABSENT if value is None else format_quantity(value.value, "s")


def _expected_cells(row: FormRow) -> Row:
    floor, fused = (row.floor_seconds(), row.seconds(FUSED)) if row.replayed else (None, None)
    return _time_with_doubt(floor), _time_with_doubt(fused)


def _time_with_doubt(value: Value | None) -> str:
    """Return a time with its half-width: `31.2 µs ±1.1%`."""
    return ABSENT if value is None else f"{format_quantity(value.value, 's')} ±{format_percent(value.half_width)}"


def _libraries(rows: Sequence[FormRow]) -> Table:
    """Return the table of the forms of other libraries, for those that were installed."""
    names = tuple(dict.fromkeys(form for row in rows for form in row.forms if form not in OWN))
    return Table(
        ", other libraries over ours", names, lambda row: tuple(ratio_text(row.ratio(name, FUSED)) for name in names)
    )


def _cost_cells(row: FormRow) -> Row:
    return tuple(_cost(row.ratio(*pair)) for pair in COST_OF_SE)


def _cost(ratio: Ratio | None) -> str:
    """Return the share that SE adds to the time without it, with its interval: `6.1% [5.0%, 7.2%]`."""
    value = Value(math.nan) if ratio is None else ratio.value
    if ratio is None or value.low is None or value.high is None:
        return ABSENT
    middle, low, high = (format_percent(end - 1) for end in (value.value, value.low, value.high))
    return f"{'' if ratio.paired else UNPAIRED}{middle} [{low}, {high}]"


TIMES = Table("", (*FORMS, "eager/fused", "compile/fused", "compile/fused-compile", "floor"), _time_cells)
EXPECTED = Table(", expected", ("expected", "measured"), _expected_cells)
COST = Table(", what SE adds", tuple(form for form, _ in COST_OF_SE), _cost_cells)
