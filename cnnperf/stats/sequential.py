"""The sequential rule of the gate: from log ratios of re-instantiations to a verdict with few false alarms.

One datum is the log of candidate over baseline for one re-instantiation: both sides measured side by side at fresh
memory placements. Data come in passes, and every pass has new processes. The rule looks at the data a few times and
stops as soon as it reaches a verdict. `Rule` explains how its errors add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import numpy as np
from scipy import stats

from cnnperf.errors import CnnperfError
from cnnperf.records.case import Case
from cnnperf.records.tolerance import Tolerance
from cnnperf.stats.robust import trimmed_mean

LOOKS = (16, 24, 32, 48, 64, 96)
"""Numbers of re-instantiations after which the rule looks at the data."""

LARGEST_LEVEL = 0.0005
"""Largest one-sided error of one look, even if the error budget of the suite allows more."""

CONFIRMATION = 0.01
"""One-sided error of all looks of the second measurement, which has to confirm every alarm."""

PROCESSES_DIFFER = 0.001
"""p-value below which passes differ by more than their data explain; the mean of a pass is the datum then."""

POWER = 0.95
"""Probability of detecting a slowdown that a report calls visible."""


@dataclass(frozen=True)
class Rule:
    """Tolerance of a comparison and the error budget of the whole suite.

    A false alarm of one case needs one wrong look out of `len(LOOKS)`, and then a wrong confirmation from new data. Its
    probability is at most `len(LOOKS) * level * CONFIRMATION`: Bonferroni's inequality for the looks, and a product
    because the confirmation shares no data with them. The level keeps all cases together within `error`. A wrong `same`
    needs one wrong look: its probability is at most `len(LOOKS) * level` for each case.

    Attributes:
        tolerance: Largest acceptable slowdown.
        error: Probability that any case of the suite is called slower although nothing changed.
        cases: Number of cases in the suite.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    error: float = 0.01
    cases: int = 1

    def __post_init__(self) -> None:
        """Check the fields.

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
        """One-sided error of one look at one case."""
        return min(LARGEST_LEVEL, self.error / (self.cases * len(LOOKS) * CONFIRMATION))

    @property
    def control_level(self) -> float:
        """One-sided error of one case of the control, which is tested in both directions."""
        return min(LARGEST_LEVEL, self.error / (2 * self.cases))

    @property
    def alarm(self) -> float:
        """Log ratio above which an estimate can be an alarm: half the tolerance."""
        return math.log1p(self.tolerance.general / 2)

    @property
    def limit(self) -> float:
        """Log ratio of the tolerance."""
        return math.log1p(self.tolerance.general)


@dataclass(frozen=True)
class Estimate:
    """Estimate of a log ratio.

    Attributes:
        middle: Trimmed mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
        count: Number of data.
        unit: Kind of a datum: `re-instantiation`, or `pass` if processes differ.
        visible: Smallest log ratio that would have been called slower with probability `POWER`.
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
    based on a single sample", Sankhya A 25, 1963); see `trimmed_mean`. If passes differ by more than independent data
    would (one-way analysis of variance), the mean of a pass is the datum.

    Args:
        passes: Log ratios, one sequence a pass; empty passes are left out.
        rule: Rule whose tolerance determines the visible slowdown.
        level: One-sided error of either end of the interval.

    Raises:
        CnnperfError: If a ratio is not a finite number, or there are fewer than two.
    """
    filled = [ratios for ratios in passes if ratios]
    data = np.fromiter(chain.from_iterable(filled), dtype=float)
    if not np.isfinite(data).all():
        raise CnnperfError("a log ratio is not a finite number: a time was not above 0, or not measured")
    if data.size < 2:  # noqa: PLR2004 - one datum has no spread
        raise CnnperfError(f"an interval needs at least two re-instantiations, not {data.size}")
    unit = "re-instantiation"
    if processes_differ(filled):
        data, unit = np.array([np.mean(ratios) for ratios in filled]), "pass"
    middle, error, freedom = trimmed_mean(data)
    reach = _quantile(1 - level, freedom) * error
    visible = max(reach, rule.alarm) + _quantile(POWER, freedom) * error
    return Estimate(middle, middle - reach, middle + reach, int(data.size), unit, visible)


def processes_differ(passes: Sequence[Sequence[float]]) -> bool:
    """Return whether the passes differ by more than the spread within them explains."""
    several = [ratios for ratios in passes if len(ratios) > 1]
    if len(several) < 2 or not any(map(np.ptp, several)):  # noqa: PLR2004 - a comparison needs two
        return False
    return bool(stats.f_oneway(*several).pvalue < PROCESSES_DIFFER)


@dataclass(frozen=True)
class Judgement:
    """Judgement of one case.

    Attributes:
        verdict: `faster`, `same`, `slower`, `unsure`, or empty if more data are needed.
        reason: Explanation of the verdict.
        found: Estimate that the verdict is based on; None if there are too few data.
    """

    verdict: str
    reason: str
    found: Estimate | None


def judge(passes: Sequence[Sequence[float]], rule: Rule) -> Judgement:
    """Judge a case from the data so far.

    Returns:
        The judgement. `slower` is an alarm that still has to be confirmed; an empty verdict asks for more data.
    """
    count = sum(map(len, passes))
    if count < LOOKS[0]:
        return Judgement("", f"{count} of at least {LOOKS[0]} re-instantiations", None)
    change = estimate(passes, rule, rule.level)
    if change.low > 0 and change.middle > rule.alarm:
        return Judgement("slower", "the interval lies above 1", change)
    if change.high < 0 and change.middle < -rule.alarm:
        return Judgement("faster", "the interval lies below 1", change)
    if change.high < rule.limit:
        return Judgement("same", f"a slowdown of {rule.tolerance.general:.1%} is excluded", change)
    return Judgement("", "the interval contains both no change and more than the tolerance", change)


def confirm(passes: Sequence[Sequence[float]], rule: Rule) -> bool | None:
    """Return whether a second measurement confirms a slowdown; None if more data are needed."""
    change = estimate(passes, rule, CONFIRMATION / len(LOOKS))
    if change.low > 0 and change.middle > rule.alarm:
        return True
    return False if change.high < rule.alarm else None


def control_differs(passes: Sequence[Sequence[float]], rule: Rule) -> bool:
    """Return whether a comparison of the baseline with itself finds a significant difference."""
    if sum(map(len, passes)) < LOOKS[0]:
        return False
    change = estimate(passes, rule, rule.control_level)
    return (change.low > 0 or change.high < 0) and abs(change.middle) > rule.alarm


@cache
def _quantile(probability: float, freedom: int) -> float:
    return float(stats.t.ppf(probability, freedom))
