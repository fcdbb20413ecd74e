"""The table of the fusion benchmark: every form of a part side by side."""

from __future__ import annotations

from collections.abc import Sequence

from cnnperf.report.cases import ratio_text
from cnnperf.report.layout import Row, grid
from cnnperf.runs.fusion import FORMS, FusionRecord
from cnnperf.units import format_factor, format_quantity

HEADER = ("", *FORMS, "eager/fused", "compile/fused", "floor")
PARTS = {"se": "Squeeze-and-Excitation alone", "tail": "tail of a block (BatchNorm, SE, shortcut, ReLU)"}
PHASES = {False: "inference", True: "forward and backward"}
LEGEND = "floor: fused over its least passes at the speed of a copy that ran beside it."


def fusion_lines(records: Sequence[FusionRecord]) -> list[str]:
    """Return the table for a terminal, none without records."""
    rows: list[Row | str] = []
    for title in _titles(records):
        rows += [title, *(_row(record) for record in records if _title(record) == title)]
    return ["", *grid(HEADER, rows), "", LEGEND] if rows else []


def fusion_markdown(records: Sequence[FusionRecord]) -> str:
    """Return the same as Markdown, a table for each title."""
    tables = [_table(title, [one for one in records if _title(one) == title]) for title in _titles(records)]
    return "\n\n".join([*tables, f"{LEGEND} n: timed rounds of each form."])


def _table(title: str, records: Sequence[FusionRecord]) -> str:
    rule = ("---", *("---:" for _ in HEADER))
    rows = [("shape", *HEADER[1:], "n"), rule, *((*_row(record), str(record.rounds)) for record in records)]
    return f"{title}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _titles(records: Sequence[FusionRecord]) -> list[str]:
    return list(dict.fromkeys(_title(record) for record in records))


def _title(record: FusionRecord) -> str:
    part = PARTS.get(record.part, record.part)
    return f"{part}, {PHASES[record.trains]}, {record.precision}, {record.layout}"


def _row(record: FusionRecord) -> Row:
    seconds = (format_quantity(record.seconds[form].value, "s") for form in FORMS)
    ratios = (ratio_text(record.over_fused[form]) for form in FORMS[:-1])
    return ("x".join(map(str, record.shape)), *seconds, *ratios, f"{format_factor(record.over_floor.value)}x")
