"""Verdicts on all ratios of a run at once: at most one run in twenty has a false one anywhere.

A confidence interval of 95 % is about one ratio. Of 45 such intervals, two miss the truth in a usual run, and a report
that calls each of them `slower` or `faster` says something false in nine runs of ten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnnperf.records.metrics import Value
from cnnperf.stats.paired import freedom_of, quantile

ABOVE, BELOW, SAME, UNSURE, UNKNOWN = "above", "below", "same", "unsure", "unknown"
"""Verdicts on a ratio: surely above 1, surely below 1, surely without a difference that matters, none of these, or
without an interval."""

DIFFERENCES, EQUALITIES = 0.04, 0.01
"""Probabilities of a false difference and of a false `same` anywhere in a run, 5 % together."""

SMALLEST_DIFFERENCE = 0.02
"""Default of the smallest difference that matters, as a fraction."""

EARLY = 0.0005
"""Probability that any ratio of a run is decided falsely at one early look, a hundredth of the error of all verdicts: a
dozen looks at growing data together add little to it."""

NORMAL = 10**6
"""Degrees of freedom of a ratio whose number of pairs is not known."""


def verdicts_on(
    ratios: Sequence[Value], smallest: float = SMALLEST_DIFFERENCE, freedoms: Sequence[float | None] = ()
) -> list[str]:
    """Return the verdict on each ratio, so that all hold together with a probability of at least 95 %.

    Differences from 1 are tested by Holm's procedure ("A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6, 1979). `same` is two one-sided tests (Schuirmann, "A comparison of the two
    one-sided tests procedure and the power approach", Journal of Pharmacokinetics and Biopharmaceutics 15, 1987) with
    Bonferroni's correction, which Holm's may not replace: of a ratio that is 1, `same` is true and both other verdicts
    are false, so that a true verdict leaves as many false ones possible as before. `same` has precedence.

    Args:
        ratios: All ratios of a run, with their 95 % intervals.
        smallest: Smallest difference that matters, as a fraction: 0.02 is 2 %.
        freedoms: Degrees of freedom of each ratio; None, or no sequence, for those of its number of cycles.
    """
    given = list(freedoms) or [None] * len(ratios)
    differences = {
        place: error_of_difference(value, freedom)
        for place, (value, freedom) in enumerate(zip(ratios, given, strict=True))
        if _known(value)
    }
    verdicts = [UNSURE if place in differences else UNKNOWN for place in range(len(ratios))]
    for order, place in enumerate(sorted(differences, key=lambda place: differences[place])):
        if differences[place] * (len(differences) - order) > DIFFERENCES:
            break
        verdicts[place] = ABOVE if ratios[place].value > 1 else BELOW
    for place in differences:
        if error_of_equality(ratios[place], smallest, given[place]) * len(differences) <= EQUALITIES:
            verdicts[place] = SAME
    return verdicts


def is_decided(ratio: Value, smallest: float, number: int) -> bool:
    """Return whether the verdict on a ratio is so sure that its measurement may end early.

    Args:
        ratio: The ratio so far.
        smallest: Smallest difference that matters, as a fraction.
        number: Number of ratios of the run.
    """
    if not _known(ratio):
        return False
    return min(error_of_difference(ratio), error_of_equality(ratio, smallest)) * number <= EARLY


def error_of_difference(ratio: Value, freedom: float | None = None) -> float:
    """Return the two-sided p-value of the hypothesis that a ratio is 1.

    Args:
        ratio: The ratio.
        freedom: Its degrees of freedom; None for those of its number of cycles.
    """
    return 2 * _beyond(ratio, -abs(math.log(ratio.value)), freedom, above=ratio.value < 1)


def error_of_equality(ratio: Value, smallest: float, freedom: float | None = None) -> float:
    """Return the p-value of the hypothesis that a ratio differs from 1 by at least `smallest`, a fraction.

    Args:
        ratio: The ratio.
        smallest: Smallest difference that matters.
        freedom: Degrees of freedom of the ratio; None for those of its number of cycles.
    """
    margin, log = math.log1p(smallest), math.log(ratio.value)
    return max(_beyond(ratio, log - margin, freedom, above=True), _beyond(ratio, -log - margin, freedom, above=False))


def _beyond(ratio: Value, distance: float, freedom: float | None, *, above: bool) -> float:
    """Return the probability of an error of the log of a ratio beyond a distance, which is negative, on one side.

    The side decides about intervals that are not symmetric: those of quotients of medians.
    """
    from scipy.special import stdtr

    if freedom is None:
        freedom = NORMAL if ratio.rounds is None else freedom_of(ratio.rounds)
    end = ratio.high if above else ratio.low
    if not end or not math.isfinite(end) or freedom < 1:
        return 0.5
    error = abs(math.log(end / ratio.value)) / quantile(freedom)
    if error > 0:
        return float(stdtr(freedom, distance / error))
    return 0.0 if distance < 0 else 1.0


def _known(ratio: Value) -> bool:
    """Return whether a ratio is a positive number within its interval, as that of a damaged file may not be."""
    if ratio.low is None or ratio.high is None or not math.isfinite(ratio.value):
        return False
    return 0 <= ratio.low <= ratio.value <= ratio.high and ratio.value > 0
