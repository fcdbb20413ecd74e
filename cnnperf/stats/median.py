"""The confidence interval of a median over groups of rounds.

The sample is the group, not the round: rounds of one memory placement share the cost of that placement, so an interval
over rounds is far too narrow. Each group contributes its own median.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache

from cnnperf.records.metrics import Value

CONFIDENCE = 0.95


@cache
def order_statistic_ranks(count: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Return the ranks (0-based) of the order statistics that bracket the median.

    The number of samples below the true median is Binomial(count, 1/2) for independent samples of any continuous
    distribution, so the interval between ranks k and count-1-k covers the median with probability
    `1 - 2 P(Binomial <= k)`. The largest k that keeps the confidence is chosen. Below six samples no pair reaches 95 %,
    and the extremes are returned.

    Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    from scipy.stats import binom  # the import takes half a second, and reading a saved run does not need it

    rank = 0
    while rank + 1 < (count + 1) // 2 and 1 - 2 * binom.cdf(rank + 1, count, 0.5) >= confidence:
        rank += 1
    return rank, count - 1 - rank


def median_interval(groups: Sequence[Sequence[float]]) -> Value:
    """Return the median over group medians with its interval.

    Args:
        groups: Seconds of the rounds, one sequence a group; no group may be empty.

    Returns:
        The median of the group medians, with `low` and `high` from their order statistics; `rounds` is the number of
        all rounds. The interval of a single group is the range of its rounds.
    """
    rounds = sum(len(group) for group in groups)
    if len(groups) == 1:
        only = sorted(groups[0])
        return Value(statistics.median(only), only[0], only[-1], rounds)
    medians = sorted(statistics.median(group) for group in groups)
    low, high = order_statistic_ranks(len(medians))
    return Value(statistics.median(medians), medians[low], medians[high], rounds)
