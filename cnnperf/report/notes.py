"""Sentences that explain the ratios of a report."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cnnperf.report.cases import UNPAIRED
from cnnperf.report.layout import wrap
from cnnperf.report.sweeps import EXPLAINED
from cnnperf.report.view import RunView
from cnnperf.stats.simultaneous import SMALLEST_DIFFERENCE

INTERVAL = "[ ]: 95% interval of one ratio."
NOT_PAIRED = (
    f"{UNPAIRED}: not paired: measured one after the other; neither [ ] nor what stands before it accounts for what "
    "changed in between."
)


def ratio_notes(view: RunView) -> list[str]:
    """Return what the intervals, words and marks of the ratios of a run mean; nothing without ratios."""
    ratios = [ratio for ratio in view.shown_ratios if not math.isnan(ratio.value.value)]
    swept = {line.axis for answer in view.sweeps for line in answer.lines}
    notes = [INTERVAL] if ratios or not swept.isdisjoint(EXPLAINED) else []
    notes += [words_note(view.run.smallest_difference)] if ratios else []
    unpaired = any(not ratio.paired for ratio in ratios)
    return [*notes, NOT_PAIRED] if unpaired else notes


def words_note(smallest: float | None = None) -> str:
    """Return what the words in place of ratios mean.

    Args:
        smallest: Smallest difference that matters, as a fraction; None for the default.
    """
    least = SMALLEST_DIFFERENCE if smallest is None else smallest
    return (
        f"Before it: a number with x if the ratio surely is not 1, same if it surely is within {100 * least:g}% of 1, "
        "else unsure, even if [ ] excludes 1. All of these are true together in 19 of 20 runs."
    )


def note_lines(notes: Iterable[str]) -> list[str]:
    """Return notes as a paragraph for a terminal; nothing without notes."""
    text = " ".join(notes)
    return ["", *wrap(text, rest="")] if text else []
