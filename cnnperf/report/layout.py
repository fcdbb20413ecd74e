"""Plain text of a fixed width: lines that wrap, names that are shortened, columns that line up."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence

from cnnperf.units import ABSENT

WIDTH = 100
"""Columns of the terminal that a report may use."""

Row = tuple[str, ...]

_GAP = "  "
_INDENT = "  "
_LEAST_LABEL = 8  # columns; a narrower label tells nothing


def shorten(text: str, width: int) -> str:
    """Return the text in at most `width` columns, with an ellipsis in the middle, because ends tell names apart."""
    if len(text) <= width:
        return text
    kept = max(0, width - 1)
    return text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]


def wrap(text: str, *, rest: str = _INDENT) -> list[str]:
    """Return the text in lines of at most `WIDTH` columns, all but the first behind `rest`."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=rest, break_on_hyphens=False)


def printable(text: str) -> str:
    """Return the text with a question mark for every character that would end the line or move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def escape(text: str) -> str:
    """Return a text that is neither HTML nor a cell's end nor a line's in Markdown."""
    plain = html.escape(" ".join(text.split()), quote=False)
    for character in "\\|`*[]":
        plain = plain.replace(character, f"\\{character}")
    return plain


def grid(header: Row, rows: Sequence[Row | str]) -> list[str]:
    """Lay out a table.

    Args:
        header: A name for each column; the first column, the label, is set to the left and all others to the right.
        rows: Each with as many cells as the header, or a heading that takes the whole line.

    Returns:
        The lines; none if there is no row to show. A column without any value is left out, and the label is
        shortened where the line would be too long.
    """
    cells = [row for row in rows if not isinstance(row, str)]
    if not cells:
        return []
    shown = [index for index in range(len(header)) if index == 0 or any(_has_value(row[index]) for row in cells)]
    widths = [max(len(row[index]) for row in (header, *cells)) for index in shown]
    room = WIDTH - len(_INDENT) - sum(widths[1:])
    least = min(widths[0], _LEAST_LABEL)
    gap = _GAP if room - len(_GAP) * (len(shown) - 1) >= least else " "
    widths[0] = max(least, min(widths[0], room - len(gap) * (len(shown) - 1)))

    def line(row: Row) -> str:
        numbers = (row[index].rjust(width) for index, width in zip(shown[1:], widths[1:], strict=True))
        return _INDENT + gap.join([shorten(row[0], widths[0]).ljust(widths[0]), *numbers]).rstrip()

    return [line(header), *(shorten(row, WIDTH) if isinstance(row, str) else line(row) for row in rows)]


def _has_value(cell: str) -> bool:
    return cell.strip() not in ("", ABSENT)
