"""Paired differences of two sides over seeds, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

from cnnperf.errors import OptionError

CONFIDENCE = 0.95
LEAST_PAIRS = 5
"""Fewest pairs for a decision: accuracies are discrete, and a few equal differences have no spread."""


@dataclass(frozen=True)
class Difference:
    """Mean difference of pairs, candidate minus base.

    Attributes:
        mean: Mean of the differences, in their unit.
        low: Lower end of the 95 % confidence interval; minus infinity for a single pair.
        high: Upper end of the interval; infinity for a single pair.
        pairs: Number of pairs.
    """

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def decided(self) -> bool:
        """Return whether the interval excludes zero, and there are at least `LEAST_PAIRS` pairs."""
        return self.pairs >= LEAST_PAIRS and (self.low > 0 or self.high < 0)


def paired_difference(base: Sequence[float], candidate: Sequence[float], overlap: float = 0.0) -> Difference:
    """Return the mean difference of pairs with the confidence interval of Student's t.

    Source: Student, "The Probable Error of a Mean", Biometrika 6, 1908, https://doi.org/10.1093/biomet/6.1.1, for
    differences within pairs as in its section IX. Pairing removes what both sides share: split and order of batches.
    If each pair is another split of the same data, differences are not independent, and the variance of their mean
    is `s^2 (1 / n + n_test / n_train)` instead of `s^2 / n`: Nadeau and Bengio, "Inference for the Generalization
    Error", Machine Learning 52, 2003, section 3, https://doi.org/10.1023/A:1024068626366.

    Args:
        base: One value per seed.
        candidate: One value per seed, in the same order.
        overlap: Test images over training images if pairs are splits of the same data; 0 if they are independent.

    Raises:
        OptionError: If the sides differ in length, are empty, or have a value that is not finite.
    """
    if len(base) != len(candidate) or not base:
        raise OptionError(
            f"pairs need equally many values on both sides, at least one; there are {len(base)} and {len(candidate)}"
        )
    differences = [after - before for before, after in zip(base, candidate, strict=True)]
    if not all(map(math.isfinite, differences)):
        raise OptionError("a value of a pair is not a finite number, so that there is no mean difference")
    mean = fmean(differences)
    if len(differences) == 1:
        return Difference(mean, -math.inf, math.inf, len(differences))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1))
    half = quantile * stdev(differences) * math.sqrt(1 / len(differences) + overlap)
    return Difference(mean, mean - half, mean + half, len(differences))


def paired_ratio(base: Sequence[float], candidate: Sequence[float]) -> Difference:
    """Return the geometric mean of candidate over base, minus 1, with its confidence interval: 0.02 is 2 % more.

    Args:
        base: One value above 0 per seed.
        candidate: One value above 0 per seed, in the same order.

    Raises:
        OptionError: As `paired_difference`, and if a value is not above 0.
    """
    if not all(value > 0 for value in (*base, *candidate)):
        raise OptionError("a value of a ratio is not above 0, so that it has no logarithm")
    logs = paired_difference([math.log(value) for value in base], [math.log(value) for value in candidate])
    return Difference(math.expm1(logs.mean), math.expm1(logs.low), math.expm1(logs.high), logs.pairs)
