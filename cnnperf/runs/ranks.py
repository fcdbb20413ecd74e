"""The processes of a scaling run compared with one another."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import islice

from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.stats.median import median_interval

WITHOUT_COMMUNICATION = "without_communication"


@dataclass(frozen=True)
class Slowest:
    """Process of a network that computes longest.

    Attributes:
        rank: Number of the process.
        of: Number of processes.
        excess: Its time over the median of the others, less 1.
        sure: Whether the interval of the excess lies above 0.
    """

    rank: int
    of: int
    excess: Value
    sure: bool


def slowest_rank(record: CaseRecord) -> Slowest | None:
    """Return the slowest process by steps without communication; None where there are not several."""
    ranks = record.ranks.get(WITHOUT_COMMUNICATION, ())
    if len(ranks) < 2:  # noqa: PLR2004 - a single process has nothing to compare with
        return None
    medians = [statistics.median(seconds) for seconds in ranks]
    slowest = max(range(len(ranks)), key=medians.__getitem__)
    others = [statistics.median(rest) for rest in zip(*(ranks[:slowest] + ranks[slowest + 1 :]), strict=True)]
    ratios = iter([own / other for own, other in zip(ranks[slowest], others, strict=True)])
    # Each group has as many steps without communication as with it.
    longer = median_interval([list(islice(ratios, len(group))) for group in record.groups])
    low, high = (None if end is None else end - 1 for end in (longer.low, longer.high))
    return Slowest(slowest, len(ranks), Value(longer.value - 1, low, high), longer.low is not None and longer.low > 1)
