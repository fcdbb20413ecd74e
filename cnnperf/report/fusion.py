"""The tables of the fusion benchmark: every form of a part side by side, and what SE adds to a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cnnperf.records.fusion import FUSED, TEXTBOOK, FusionRecord
from cnnperf.records.metrics import Value
from cnnperf.report.cases import ratio_text
from cnnperf.report.layout import Row, escape, grid
from cnnperf.units import ABSENT, format_factor, format_percent, format_quantity

PARTS = {
    "se": "Squeeze-and-Excitation alone",
    "tail": "tail of a block (BatchNorm, SE, shortcut, ReLU)",
    "block": "block (two 3x3 convolutions, SE, shortcut)",
    "network": "ResNet-18 with SE",
}
PHASES = {False: "inference", True: "forward and backward"}
OURS_COMPILED = "fused-compile"
LEGEND_OF_DEVICES = (
    "; on a GPU these times are the device's: calls captured in a graph, more buffers than fit its cache; "
    "host: one synchronized call; expected: the least passes at the speed of the copy."
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
        suffix: Follows the title.
        header: Of the columns after the shape.
        row: Gives their cells.
    """

    suffix: str
    header: Row
    row: Callable[[FusionRecord], Row]


def fusion_lines(records: Sequence[FusionRecord]) -> list[str]:
    """Return the tables for a terminal, none without records."""
    lines: list[str] = []
    for title, table, chosen in _tables(records):
        lines += ["", title, *grid(("", *table.header), [(_shape(one), *table.row(one)) for one in chosen])]
    lines += [f"no device time: {reason}" for one in records for reason in one.not_captured.values()]
    return [*lines, "", *_legend(records).split("; ")] if lines else []


def fusion_markdown(records: Sequence[FusionRecord]) -> str:
    """Return the same as Markdown, a table for each title."""
    tables = [_markdown(*each) for each in _tables(records)]
    return "\n\n".join([*tables, f"{_legend(records)} n: timed rounds of each form."])


def _legend(records: Sequence[FusionRecord]) -> str:
    return LEGEND + (LEGEND_OF_DEVICES if any(one.host_seconds for one in records) else ".")


def _markdown(title: str, table: Table, records: Sequence[FusionRecord]) -> str:
    kept = [index for index in range(len(table.header)) if any(table.row(one)[index] != ABSENT for one in records)]
    header = ("shape", *(table.header[index] for index in kept), "n")
    rule = ("---", *("---:" for _ in header[1:]))
    rows = ((_shape(one), *(table.row(one)[index] for index in kept), str(one.rounds)) for one in records)
    return f"{escape(title)}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _tables(records: Sequence[FusionRecord]) -> Iterator[tuple[str, Table, list[FusionRecord]]]:
    """Yield each table that has something to show: its title, its kind and its records."""
    for title in dict.fromkeys(map(_title, records)):
        chosen = [one for one in records if _title(one) == title]
        for table in (FORMS, HOST, _libraries(chosen), TAX):
            if any(cell != ABSENT for one in chosen for cell in table.row(one)):
                yield title + table.suffix, table, chosen


def _title(record: FusionRecord) -> str:
    words = (PARTS.get(record.part, record.part), PHASES[record.trains], record.precision, record.layout)
    return ", ".join(words if record.device == "cpu" else (*words, record.device))


def _shape(record: FusionRecord) -> str:
    return "x".join(map(str, record.shape))


def _form_cells(record: FusionRecord) -> Row:
    seconds = (record.seconds.get(form) for form in (*TEXTBOOK, FUSED, OURS_COMPILED))
    times = (ABSENT if one is None else format_quantity(one.value, "s") for one in seconds)
    eager, compiled = (_ratio(record.over_fused.get(form)) for form in TEXTBOOK)
    alike = record.over_fused_compile  # where both were compiled, that is the comparison
    against = (compiled, ABSENT) if alike is None else (ABSENT, ratio_text(alike))
    floor = ABSENT if record.over_floor is None else f"{format_factor(record.over_floor.value)}x"
    return (*times, eager, *against, floor)


def _ratio(value: Value | None) -> str:
    return ABSENT if value is None else ratio_text(value)


def _host_cells(record: FusionRecord) -> Row:
    times = (record.host_seconds.get(form) for form in (*TEXTBOOK, FUSED, OURS_COMPILED))
    expected = () if not record.host_seconds else (record.floor_seconds, record.seconds[FUSED])
    return (*(_time(one) for one in times), *(_time(one) for one in expected or (None, None)))


def _time(value: Value | None) -> str:
    """Write a time with its half-width: `31.2 µs ±1.1%`."""
    if value is None:
        return ABSENT
    return f"{format_quantity(value.value, 's')} ±{format_percent(value.half_width)}"


def _libraries(records: Sequence[FusionRecord]) -> Table:
    """Return the table of the forms that other libraries bring, whichever were installed."""
    known = (*TEXTBOOK, FUSED, OURS_COMPILED, "plain", "plain-compile")
    names = tuple(dict.fromkeys(form for one in records for form in one.over_fused if form not in known))

    def cells(record: FusionRecord) -> Row:
        return tuple(ratio_text(record.over_fused[name]) if name in record.over_fused else ABSENT for name in names)

    return Table(", other libraries over ours", names, cells)


def _tax_cells(record: FusionRecord) -> Row:
    return tuple(_tax(record.over_plain.get(form)) for form in TAX.header)


def _tax(ratio: Value | None) -> str:
    """Write what SE adds, to the time without, with its interval: `6.1% [5.0%, 7.2%]`."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return ABSENT
    value, low, high = (format_percent(one - 1) for one in (ratio.value, ratio.low, ratio.high))
    return f"{value} [{low}, {high}]"


RATIOS = ("eager/fused", "compile/fused", "compile/fused-compile")
FORMS = Table("", (*TEXTBOOK, FUSED, OURS_COMPILED, *RATIOS, "floor"), _form_cells)
HOST = Table(
    ", host time; expected and measured",
    (*TEXTBOOK, FUSED, OURS_COMPILED, "expected", "measured"),
    _host_cells,
)
TAX = Table(", what SE adds", (*TEXTBOOK, FUSED, OURS_COMPILED), _tax_cells)
