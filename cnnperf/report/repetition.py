"""Two runs of one commit for a terminal: agreement of the counters, and the times of both."""

from __future__ import annotations

from cnnperf.report.cases import unpaired_text, word_of
from cnnperf.report.layout import WIDTH, Row, grid, printable, shorten, wrap
from cnnperf.report.notes import INTERVAL, NOT_PAIRED, note_lines, words_note
from cnnperf.runs.repeat import Repeat
from cnnperf.stats.simultaneous import verdicts_on
from cnnperf.units import ABSENT, format_quantity


def repeat_lines(repeat: Repeat) -> list[str]:
    """Return the result first, then every counter that differs, then both times of each case."""
    differ = f"{len(repeat.differences)} differ" if repeat.differences else "all equal to the last digit"
    lines = wrap(f"{repeat.counters} counters of {len(repeat.times)} cases compared: {differ}.")
    for difference in repeat.differences:
        values = (difference.first, difference.second)
        first, second = (ABSENT if value is None else repr(value) for value in values)
        lines.append(f"  {difference.case.label()}: {difference.metric} {first} and {second}")
    lines += [f"  only in one run: {case.label()}" for case in repeat.unpaired]
    rows: list[Row | str] = []
    verdicts = verdicts_on([times.ratio for times in repeat.times])
    for times, verdict in zip(repeat.times, verdicts, strict=True):
        seconds = (format_quantity(side.value, "s") for side in (times.first, times.second))
        rows.append((times.case.label(), *seconds, unpaired_text(times.ratio, word_of(verdict))))
    lines += ["", "latency of both runs, and the second over the first"]
    lines += grid(("", "first", "second", "ratio"), rows)
    lines += note_lines([INTERVAL, words_note(), NOT_PAIRED]) if rows else []
    return [shorten(printable(line), WIDTH) for line in lines]
