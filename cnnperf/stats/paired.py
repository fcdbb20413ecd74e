"""Ratios of samples taken side by side, in which disturbances of both members of a pair cancel."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval
from cnnperf.stats.ratio import exp
from cnnperf.stats.robust import trimmed_mean

CONFIDENCE = 0.95

Groups = Sequence[Sequence[float]]
"""Seconds of the rounds of a case, one sequence a cycle."""


def paired_ratio(numerator: Groups, denominator: Groups) -> Value:
    """Return the ratio of two cases of a block.

    The datum is the log of the ratio of the medians of one cycle. The estimate is the 10 % trimmed mean of the data.
    The interval is that of Tukey and McLaughlin ("Less vulnerable confidence and significance procedures for location
    based on a single sample", Sankhya A 25, 1963). It needs independent pairs: each cycle has fresh memory placements
    and an order of its own.

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
    if logs.size < 2:  # noqa: PLR2004 - one pair has no spread
        return Value(math.exp(float(logs[0])), 0.0, math.inf, int(logs.size))
    middle, error, freedom = trimmed_mean(logs)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Value(math.exp(middle), math.exp(middle - reach), exp(middle + reach), int(logs.size))


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
