"""The trimmed mean, which is robust against a few outliers."""

from __future__ import annotations

import math

import numpy as np

TRIM = 0.1
"""Share of the data that the mean leaves out at either end."""


def trimmed_mean(data: np.ndarray) -> tuple[float, float, int]:
    """Return the trimmed mean of at least two data, its standard error and its degrees of freedom.

    The standard error is that of the winsorized data, and the degrees of freedom are those of the remaining data.
    Source: Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for location based on a single
    sample", Sankhya A 25, 1963.
    """
    ordered, cut = np.sort(data), int(TRIM * data.size)
    inner = ordered[cut : data.size - cut]
    winsorized = np.clip(ordered, inner[0], inner[-1])
    share = inner.size / data.size
    return float(inner.mean()), float(winsorized.std(ddof=1)) / (share * math.sqrt(data.size)), inner.size - 1
