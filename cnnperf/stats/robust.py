"""The trimmed mean, which is robust against a few outliers."""

from __future__ import annotations

import math

import numpy as np

TRIM = 0.1
"""Share of the data that the mean leaves out at either end."""


def trimmed_mean(data: np.ndarray, trim: float = TRIM, batches: int | None = None) -> tuple[float, float, float]:
    """Return the trimmed mean of at least two data, its standard error and its degrees of freedom.

    The standard error is that of the winsorized data, and the degrees of freedom are those of the remaining data.
    Source: Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for location based on a single
    sample", Sankhya A 25, 1963.

    Args:
        data: Data in the order of time.
        trim: Share of the data to leave out at either end, below 0.5.
        batches: Number of batches of consecutive data; data of one batch may be alike. None for independent data.
    """
    ordered, cut = np.sort(data), int(trim * data.size)
    inner = ordered[cut : data.size - cut]
    winsorized = np.clip(data, inner[0], inner[-1])
    share = inner.size / data.size
    error = math.sqrt(variance_by_batches(winsorized, batches or data.size) / data.size) / share
    return float(inner.mean()), error, degrees_of_freedom(data.size, trim, batches)


def degrees_of_freedom(count: int, trim: float = TRIM, batches: int | None = None) -> float:
    """Return the degrees of freedom of a trimmed mean of at least two data.

    Trimming and batches each leave fewer than the `count - 1` of a plain mean. A variance with f degrees of freedom has
    a relative variance of 2/f (Satterthwaite, "An approximate distribution of estimates of variance components",
    Biometrics Bulletin 2, 1946); what either adds to 2/(count - 1) is added up.

    Args:
        count: Number of data.
        trim: Share of the data that is left out at either end.
        batches: Number of batches; None for independent data.
    """
    trimmed = count - 2 * int(trim * count) - 1
    if batches is None or batches >= count:
        return trimmed
    return 1 / (1 / trimmed + 1 / (batches - 1) - 1 / (count - 1))


def variance_by_batches(data: np.ndarray, batches: int) -> float:
    """Return the variance of the sum of data per datum, from the sums of batches of consecutive data.

    It is that of independent data if each is a batch. Source: Schmeiser, "Batch size effects in the analysis of
    simulation output", Operations Research 30, 1982, which finds that 10 to 30 batches suffice.

    Args:
        data: Data in the order of time.
        batches: Number of batches, at least two; with fewer data, each is a batch.
    """
    count = min(batches, data.size)
    sums = np.array([float(batch.sum()) for batch in np.array_split(data - data.mean(), count)])
    return float(sums @ sums) / data.size * count / (count - 1)
