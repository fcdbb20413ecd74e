"""Ratios of samples taken side by side, in which disturbances of both members of a pair cancel."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval
from cnnperf.stats.ratio import exp
from cnnperf.stats.robust import degrees_of_freedom, trimmed_mean

CONFIDENCE = 0.95

TRIM = 0.2
"""Share of the pairs that a ratio leaves out at either end. Another process slows every tenth to third turn of a shared
machine by 10 to 100 %: a mean that leaves out only 10 % has an interval that is a quarter wider."""

BATCHES = 16
"""Batches of consecutive cycles whose spread gives the interval: what disturbs a machine for a second or two moves all
cycles of a visit alike, but hardly those of the next visit. `measure.visits` makes as many visits."""

SMALLEST_COUNT = 2  # one pair has no spread
STEPS = 60
WIDEST = 1e6  # share beyond which an interval is unbounded

Groups = Sequence[Sequence[float]]
"""Seconds of the rounds of a case, one sequence a cycle."""


def paired_ratio(numerator: Groups, denominator: Groups) -> Value:
    """Return the ratio of two cases of a block.

    The datum is the log of the ratio of the medians of one cycle. The estimate is the 20 % trimmed mean of the data.
    The interval is that of Tukey and McLaughlin, from the spread of batches of cycles; see `trimmed_mean`.

    Args:
        numerator: Cycles of the case whose latency is divided.
        denominator: The same cycles of the other case.

    Returns:
        The ratio with its 95 % interval; `rounds` is the number of cycles. The interval of a single cycle is unbounded.

    Raises:
        ValueError: If the cases have different numbers of cycles.
    """
    pairs = zip(numerator, denominator, strict=True)
    logs = np.log([statistics.median(above) / statistics.median(below) for above, below in pairs])
    middle, reach = _interval(logs)
    return Value(math.exp(middle), math.exp(middle - reach), exp(middle + reach), int(logs.size))


def paired_share(plain: Groups, costly: Groups, improved: Groups) -> Value:
    """Return the share of the extra latency of `costly` over `plain` that `improved` saves.

    The share s solves `costly - improved = s (costly - plain)`: 1 if `improved` is as fast as `plain`, below 0 if it is
    slower than `costly`. The interval holds every s for which the data `(costly - improved - s (costly - plain)) /
    plain` of the cycles have a trimmed mean that does not differ from 0 (Fieller, "Some problems in interval
    estimation", Journal of the Royal Statistical Society B 16, 1954).

    Args:
        plain: Cycles of the case without the part.
        costly: The same cycles of the case with it.
        improved: The same cycles of the improved case.

    Returns:
        The share with its 95 % interval; `rounds` is the number of cycles. NaN where `costly` is not significantly
        slower than `plain`.

    Raises:
        ValueError: If the cases have different numbers of cycles.
    """
    cycles = zip(plain, costly, improved, strict=True)
    base, with_part, saved = np.array([[statistics.median(turn) for turn in cycle] for cycle in cycles]).T
    cost, gain = (with_part - base) / base, (with_part - saved) / base
    middle, reach = _interval(cost)
    if not middle > reach:
        return Value(math.nan)

    def root(sign: int) -> float:
        def excess(share: float) -> float:
            middle, reach = _interval(gain - share * cost)
            return middle + sign * reach

        return _root(excess)

    return Value(root(0), root(-1), root(1), int(base.size))


@dataclass(frozen=True)
class PairedSamples:
    """Samples of subjects that were measured side by side.

    Attributes:
        groups: Subject to the seconds of the rounds of each cycle.
        stopped: `interval` or `budget`: what ended the sampling.
    """

    groups: Mapping[str, list[list[float]]]
    stopped: str

    def latency(self, name: str) -> Value:
        """Return the median seconds of a subject with their interval."""
        return median_interval(self.groups[name])

    def ratio(self, numerator: str, denominator: str) -> Value:
        """Return the paired ratio of two subjects; see `paired_ratio`."""
        return paired_ratio(self.groups[numerator], self.groups[denominator])


def quantile(freedom: float, probability: float = (1 + CONFIDENCE) / 2) -> float:
    """Return a quantile of Student's t distribution; infinity without degrees of freedom."""
    from scipy.special import stdtrit  # the import takes a quarter of a second, and reading a run does not need it

    return float(stdtrit(freedom, probability)) if freedom > 0 else math.inf


def freedom_of(cycles: int) -> float:
    """Return the degrees of freedom of the ratio of so many cycles."""
    return degrees_of_freedom(cycles, TRIM, BATCHES)


def _interval(data: np.ndarray) -> tuple[float, float]:
    """Return the trimmed mean of data in the order of time, and the half-width of its 95 % interval."""
    if data.size < SMALLEST_COUNT:
        return float(data[0]), math.inf
    middle, error, freedom = trimmed_mean(data, TRIM, BATCHES)
    return middle, quantile(freedom) * error


def _root(falling: Callable[[float], float]) -> float:
    """Return where a falling function is 0; plus or minus infinity where that is beyond `WIDEST`."""
    low, high = -1.0, 1.0
    while falling(low) < 0 and low > -WIDEST:
        low *= 2
    while falling(high) > 0 and high < WIDEST:
        high *= 2
    if low <= -WIDEST or high >= WIDEST:
        return math.copysign(math.inf, low + high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
