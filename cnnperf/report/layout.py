"""Plain text of a fixed width: wrapped lines, shortened names and aligned columns."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

from cnnperf.units import ABSENT

WIDTH = 100
"""Largest width of a report in columns of the terminal."""

Row = tuple[str, ...]

_GAP = "  "
_INDENT = "  "
_LEAST_LABEL = 8  # columns; a narrower label is useless


def shorten(text: str, width: int) -> str:
    """Return the text in at most `width` columns; an ellipsis replaces the middle, since names differ at their ends."""
    if len(text) <= width:
        return text
    kept = max(0, width - 1)
    return text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]


def wrap(text: str, *, rest: str = _INDENT) -> list[str]:
    """Return the text in lines of at most `WIDTH` columns, all but the first indented by `rest`."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=rest, break_on_hyphens=False)


def printable(text: str) -> str:
    """Return the text with a question mark for every character that would end the line or move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def escape(text: str) -> str:
    """Return the text on one line, with the special characters of HTML and Markdown escaped."""
    plain = html.escape(" ".join(text.split()), quote=False)
    for character in "\\|`*[]":
        plain = plain.replace(character, f"\\{character}")
    return plain


def pipe_table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Return a Markdown table.

    Args:
        rows: Cells of the header, then of the rows; already escaped.
        left: Number of columns that are aligned to the left; the others are aligned to the right.
    """
    header, *others = rows
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *others))


def grid(header: Row, rows: Sequence[Row | str]) -> list[str]:
    """Lay out a table for a terminal.

    Args:
        header: Names of the columns. The first column, the label, is aligned to the left, all others to the right.
        rows: Rows with as many cells as the header, or headings that take the whole line.

    Returns:
        The lines; none if there is no row. A column without any value is left out, and the label is shortened where
        the line would be too long.
    """
    cells = [row for row in rows if not isinstance(row, str)]
    if not cells:
        return []
    shown = [index for index in range(len(header)) if index == 0 or any(_has_value(row[index]) for row in cells)]
    widths = [max(len(row[index]) for row in (header, *cells)) for index in shown]
    available = WIDTH - len(_INDENT) - sum(widths[1:])
    least = min(widths[0], _LEAST_LABEL)
    gap = _GAP if available - len(_GAP) * (len(shown) - 1) >= least else " "
    widths[0] = max(least, min(widths[0], available - len(gap) * (len(shown) - 1)))

    def line(row: Row) -> str:
        numbers = (row[index].rjust(width) for index, width in zip(shown[1:], widths[1:], strict=True))
        return _INDENT + gap.join([shorten(row[0], widths[0]).ljust(widths[0]), *numbers]).rstrip()

    return [line(header), *(shorten(row, WIDTH) if isinstance(row, str) else line(row) for row in rows)]


def _has_value(cell: str) -> bool:
    return cell.strip() not in ("", ABSENT)
