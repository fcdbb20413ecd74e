"""The initial transient of cases measured side by side: leading cycles in which one of them was not yet warm."""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.01
"""Probability that a block without a transient loses leading cycles; that costs precision and biases nothing."""

FEWEST = 3  # leading cycles
SMALLEST = 12  # cycles of a block that is searched
STEPS = 16
"""The end of a transient is searched at every sixteenth of the cycles, up to the middle."""

VISIBLE = 0.01  # smallest difference of a transient, relative


def transient(seconds: np.ndarray) -> int:
    """Return how many leading cycles belong to a transient of a single case.

    What slows all cases at once is none: it cancels in their ratios. The datum is the log of a case's turn over the
    geometric mean of the cycle. The transient ends where the ranks of its data differ most from those of the later
    ones (Pettitt, "A non-parametric approach to the change-point problem", Applied Statistics 28, 1979, with the
    standardized statistic of the rank-sum test).

    Args:
        seconds: Median seconds of the turns, (cycles, cases).

    Returns:
        The number of cycles, at most half of them; 0 for a single case and for fewer than 12 cycles.
    """
    count, cases = seconds.shape
    if cases == 1 or count < SMALLEST:
        return 0
    logs = np.log(seconds)
    relative = logs - logs.mean(axis=1, keepdims=True)
    ends = sorted({max(FEWEST, count * step // STEPS) for step in range(1, STEPS // 2 + 1)})
    return max(_end(data, ends, LEVEL / (cases * len(ends))) for data in relative.T)


def _end(data: np.ndarray, ends: list[int], level: float) -> int:
    """Return the number of leading data that most surely differ from the later ones; 0 if none do."""
    from scipy.stats import rankdata

    count, ranks = data.size, rankdata(data)
    sums = {end: 2 * float(ranks[:end].sum()) - end * (count + 1) for end in ends}
    scores = {end: abs(total) / math.sqrt(end * (count - end) * (count + 1) / 3) for end, total in sums.items()}
    end = max(scores, key=lambda place: scores[place])
    size = abs(float(np.median(data[:end]) - np.median(data[end:])))
    return end if size > VISIBLE and math.erfc(scores[end] / math.sqrt(2)) < level else 0
