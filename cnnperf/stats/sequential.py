"""The sequential rule of the gate: from log ratios of re-instantiations to a verdict that rarely is a false alarm.

One datum is the log of candidate over baseline for one re-instantiation: both sides measured side by side at fresh
memory placements. Data come in passes, and every pass has new processes. The rule looks at them a few times and stops
when it can tell. How its errors add up is in `Rule`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from scipy import stats

from cnnperf.errors import CnnperfError
from cnnperf.records.case import Case
from cnnperf.records.tolerance import Tolerance
from cnnperf.stats.robust import trimmed_mean

LOOKS = (16, 24, 32, 48, 64, 96)
"""After how many re-instantiations the rule looks."""

STRICTEST = 0.0005
"""One-sided error of one look, where the budget of the suite allows more."""

CONFIRMATION = 0.01
"""One-sided error of the second measurement, all its looks together, which every alarm must survive."""

PROCESSES_DIFFER = 0.001
"""Below this probability, passes differ by more than their data explain, and the pass becomes the datum."""

POWER = 0.95
"""How surely a slowdown would have been found that a report calls visible."""


@dataclass(frozen=True)
class Rule:
    """Tolerance of a comparison, and the error that the whole suite may have.

    A false alarm of one case needs a wrong look, of which there are `len(LOOKS)`, and then a wrong confirmation from
    new data: its probability is at most `len(LOOKS) * level * CONFIRMATION` (Bonferroni's inequality for the looks; the
    product, because the confirmation shares no datum with them). The level is such that all cases together stay within
    `error`. A case wrongly called `same` needs one wrong look: at most `len(LOOKS) * level` for each case.

    Attributes:
        tolerance: Largest acceptable slowdown.
        error: Probability that any case of the suite is called slower though nothing changed.
        cases: Number of cases.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    error: float = 0.01
    cases: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            CnnperfError: If the error is not between 0 and 1, or there is no case.
        """
        if not 0 < self.error < 1:
            raise CnnperfError(f"the error of a suite is a probability between 0 and 1, not {self.error:g}")
        if self.cases < 1:
            raise CnnperfError(f"a suite has at least one case, not {self.cases}")

    def of(self, case: Case) -> Rule:
        """Return the rule of one case, with its own tolerance."""
        return replace(self, tolerance=Tolerance(self.tolerance.of(case)))

    @property
    def level(self) -> float:
        """Return the one-sided error of one look at one case."""
        return min(STRICTEST, self.error / (self.cases * len(LOOKS) * CONFIRMATION))

    @property
    def control_level(self) -> float:
        """Return the one-sided error of one case of the control, which may fall to either side."""
        return min(STRICTEST, self.error / (2 * self.cases))

    @property
    def alarm(self) -> float:
        """Return the log ratio above which an estimate counts: that of half the tolerance."""
        return math.log1p(self.tolerance.general / 2)

    @property
    def limit(self) -> float:
        """Return the log ratio of the tolerance."""
        return math.log1p(self.tolerance.general)


@dataclass(frozen=True)
class Estimate:
    """Estimate of a log ratio.

    Attributes:
        middle: Trimmed mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
        count: Number of data.
        unit: What one datum is: `re-instantiation`, or `pass` where processes differ.
        visible: The least log ratio that would have been called slower with probability `POWER`.
    """

    middle: float
    low: float
    high: float
    count: int
    unit: str
    visible: float


def estimate(passes: Sequence[Sequence[float]], rule: Rule, level: float) -> Estimate:
    """Return the trimmed mean of log ratios with its interval.

    The interval is that of Tukey and McLaughlin ("Less vulnerable confidence and significance procedures for location
    based on a single sample", Sankhya A 25, 1963): the standard error comes from the winsorized deviations, and the
    degrees of freedom are those of the data that are left. Where passes differ by more than independent data would
    (one-way analysis of variance), the mean of a pass is the datum.

    Args:
        passes: Log ratios, one sequence a pass; passes that are empty are left out.
        rule: For the threshold of what would have been visible.
        level: One-sided error of the interval's ends.

    Raises:
        CnnperfError: If a ratio is not a finite number, or there are fewer than two.
    """
    filled = [list(one) for one in passes if one]
    data = np.array([value for one in filled for value in one], dtype=float)
    if not np.isfinite(data).all():
        raise CnnperfError("a log ratio is not a finite number: a time was not above 0, or not measured")
    if data.size < 2:  # noqa: PLR2004 - one datum has no spread
        raise CnnperfError(f"an interval needs at least two re-instantiations, not {data.size}")
    unit = "re-instantiation"
    if processes_differ(filled):
        data, unit = np.array([np.mean(one) for one in filled]), "pass"
    middle, error, freedom = trimmed_mean(data)
    reach = _quantile(1 - level, freedom) * error
    visible = max(reach, rule.alarm) + _quantile(POWER, freedom) * error
    return Estimate(middle, middle - reach, middle + reach, int(data.size), unit, visible)


def processes_differ(passes: Sequence[Sequence[float]]) -> bool:
    """Return whether the passes differ by more than the spread within them explains."""
    several = [one for one in passes if len(one) > 1]
    if len(several) < 2 or not any(np.ptp(one) for one in several):  # noqa: PLR2004 - to be compared
        return False
    return bool(stats.f_oneway(*several).pvalue < PROCESSES_DIFFER)


@dataclass(frozen=True)
class Judgement:
    """Judgement of one case.

    Attributes:
        verdict: `faster`, `same`, `slower`, `unsure`, or empty where more data may tell.
        reason: Why, in words.
        found: The estimate behind it, or None where there are too few data for one.
    """

    verdict: str
    reason: str
    found: Estimate | None


def judge(passes: Sequence[Sequence[float]], rule: Rule) -> Judgement:
    """Look once.

    Returns:
        `slower` is an alarm that still has to be confirmed; an empty verdict asks for more data.
    """
    count = sum(map(len, passes))
    if count < LOOKS[0]:
        return Judgement("", f"{count} of at least {LOOKS[0]} re-instantiations", None)
    found = estimate(passes, rule, rule.level)
    if found.low > 0 and found.middle > rule.alarm:
        return Judgement("slower", "the interval lies above 1", found)
    if found.high < 0 and found.middle < -rule.alarm:
        return Judgement("faster", "the interval lies below 1", found)
    if found.high < rule.limit:
        return Judgement("same", f"a slowdown of {rule.tolerance.general:.1%} is excluded", found)
    return Judgement("", "the interval holds both no change and more than is allowed", found)


def confirm(passes: Sequence[Sequence[float]], rule: Rule) -> bool | None:
    """Return whether a second measurement finds the slowdown too; None where more data may tell."""
    found = estimate(passes, rule, CONFIRMATION / len(LOOKS))
    if found.low > 0 and found.middle > rule.alarm:
        return True
    return False if found.high < rule.alarm else None


def control_differs(passes: Sequence[Sequence[float]], rule: Rule) -> bool:
    """Return whether a comparison of the baseline with itself finds what cannot be there."""
    if sum(map(len, passes)) < LOOKS[0]:
        return False
    found = estimate(passes, rule, rule.control_level)
    return (found.low > 0 or found.high < 0) and abs(found.middle) > rule.alarm


@cache
def _quantile(probability: float, freedom: int) -> float:
    return float(stats.t.ppf(probability, freedom))
