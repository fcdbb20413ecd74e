"""Sentences that explain the ratios of a report."""

from __future__ import annotations

from cnnperf.report.cases import UNPAIRED
from cnnperf.report.view import RunView
from cnnperf.stats.simultaneous import SMALLEST_DIFFERENCE
from cnnperf.units import format_percent


def ratio_notes(view: RunView) -> list[str]:
    """Return what the intervals, words and marks of the ratios of a run mean; nothing without ratios."""
    if not view.ratios:
        return []
    smallest = view.run.smallest_difference
    least = format_percent(SMALLEST_DIFFERENCE if smallest is None else smallest)
    words = (
        "In 19 of 20 runs all of these are true together: a ratio without a word is surely not 1; same: it surely "
        f"differs from 1 by less than {least}; unsure: neither is sure."
    )
    notes = ["[ ]: 95 % interval of one ratio.", words]
    unpaired = any(not ratio.paired for ratio in view.ratios.values())
    mark = f"{UNPAIRED}: not paired; the cases were measured one after the other, and the interval is too narrow."
    return [*notes, mark] if unpaired else notes
