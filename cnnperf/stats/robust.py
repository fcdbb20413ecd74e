"""The trimmed mean, which is robust against a few outliers."""

from __future__ import annotations

import math

import numpy as np

TRIM = 0.1
"""Share of the data that the mean leaves out at either end."""


def trimmed_mean(data: np.ndarray, trim: float = TRIM, lags: int = 0) -> tuple[float, float, int]:
    """Return the trimmed mean of at least two data, its standard error and its degrees of freedom.

    The standard error is that of the winsorized data, and the degrees of freedom are those of the remaining data.
    Source: Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for location based on a single
    sample", Sankhya A 25, 1963.

    Args:
        data: Data in the order of time.
        trim: Share of the data to leave out at either end, below 0.5.
        lags: Number of lags whose autocovariances count; 0 for independent data.
    """
    ordered, cut = np.sort(data), int(trim * data.size)
    inner = ordered[cut : data.size - cut]
    winsorized = np.clip(data, inner[0], inner[-1])
    share = inner.size / data.size
    error = math.sqrt(long_run_variance(winsorized, lags)) / (share * math.sqrt(data.size))
    return float(inner.mean()), error, degrees_of_freedom(data.size, trim)


def degrees_of_freedom(count: int, trim: float = TRIM) -> int:
    """Return the degrees of freedom of a trimmed mean of `count` data."""
    return count - 2 * int(trim * count) - 1


def long_run_variance(data: np.ndarray, lags: int) -> float:
    """Return the variance of data with that of their sum per datum, at least the variance of independent data.

    Autocovariances have Bartlett's weights: Newey and West, "A simple, positive semi-definite, heteroskedasticity and
    autocorrelation consistent covariance matrix", Econometrica 55, 1987, equation 5. A negative autocorrelation would
    narrow the interval, and is ignored.

    Args:
        data: Data in the order of time.
        lags: Number of lags; 0 for independent data.
    """
    deviations, free = data - data.mean(), data.size - 1
    independent = float(deviations @ deviations) / free
    weights = ((lag, 1 - lag / (lags + 1)) for lag in range(1, lags + 1))
    shared = sum(weight * float(deviations[lag:] @ deviations[:-lag]) for lag, weight in weights)
    return max(independent, independent + 2 * shared / free)
