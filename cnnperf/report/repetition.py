"""Two runs of one commit for a terminal: whether the counters agree, and the table of both times."""

from __future__ import annotations

from cnnperf.report.cases import ratio_text
from cnnperf.report.layout import WIDTH, Row, grid, printable, shorten, wrap
from cnnperf.runs.repeat import Difference, Repeat
from cnnperf.units import ABSENT, format_quantity


def repeat_lines(repeat: Repeat) -> list[str]:
    """Return the answer first, then every counter that differs, then both times of each case."""
    lines = [
        *wrap(_answer(repeat)),
        *(f"  {_difference(difference)}" for difference in repeat.differences),
        *(f"  only in one run: {case.label()}" for case in repeat.unpaired),
        "",
        "latency of both runs, and the second over the first",
        *grid(("", "first", "second", "ratio"), _rows(repeat)),
    ]
    return [shorten(printable(line), WIDTH) for line in lines]


def _answer(repeat: Repeat) -> str:
    compared = f"{repeat.counters} counters of {len(repeat.times)} cases"
    if not repeat.differences:
        return f"{compared} compared: all equal to the last digit."
    return f"{compared} compared: {len(repeat.differences)} differ."


def _difference(difference: Difference) -> str:
    first, second = (ABSENT if value is None else repr(value) for value in (difference.first, difference.second))
    return f"{difference.case.label()}: {difference.metric} {first} and {second}"


def _rows(repeat: Repeat) -> list[Row | str]:
    return [
        (
            times.case.label(),
            format_quantity(times.first.value, "s"),
            format_quantity(times.second.value, "s"),
            ratio_text(times.ratio),
        )
        for times in repeat.times
    ]
