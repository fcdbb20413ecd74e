"""How much a gradient grows from layer to layer on its way back, and what that means for a deep network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnnperf.errors import OptionError

LIMIT = 1.1
"""Growth a layer beyond which a gradient explodes, and below whose inverse it vanishes: tenfold within 24 layers."""

STRAY = 10.0
"""Factor by which norms may stray from the fitted line before it no longer describes them."""

BATCH_NORM_GROWTH = math.sqrt(math.pi / (math.pi - 1))
"""Growth a layer of the gradient norm in ReLU networks with batch statistics at initialisation, 1.2112, for wide layers
and large batches. Source: Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz, "A Mean Field Theory of Batch
Normalization", ICLR 2019, https://arxiv.org/abs/1902.08129."""

CONFIDENCE = 0.95
NOT_DECIDED = "not decided"


@dataclass(frozen=True)
class Growth:
    """Say how a gradient grows for each layer that it passes on its way from the output to the input.

    Attributes:
        rate: Factor a layer, the geometric mean over seeds; NaN where it could not be fitted.
        low: Lower end of its 95 % interval over seeds.
        high: Upper end.
        seeds: How many series it was fitted to.
        verdict: `explodes`, `vanishes`, `stable` or `not decided`.
        reason: Why, in words.
    """

    rate: float
    low: float
    high: float
    seeds: int
    verdict: str
    reason: str


def fit_growth(layers: Sequence[int], norms: Sequence[Sequence[float]]) -> Growth:
    """Fit the growth a layer and judge it.

    Each series of logs is fitted by a line; the interval is that of Student's t over the slopes, because layers of one
    network are not independent of each other and seeds are. The verdict is `explodes` where the interval lies above
    `LIMIT`, `vanishes` where it lies below 1 / `LIMIT`, `stable` where it lies between them, and `not decided` where it
    reaches across one of them, where the mean series strays from its line by a factor of `STRAY`, or where a norm is no
    number. A norm that became 0 has vanished and one that became infinite has exploded, whatever the rest does.

    Args:
        layers: How many layers the gradient has passed, one number a norm.
        norms: For each seed, the norms, all at least 0.

    Raises:
        OptionError: If there are fewer than two layers, no seeds, or series of another length than `layers`.
    """
    if len(set(layers)) < 2 or not norms or any(len(series) != len(layers) for series in norms):  # noqa: PLR2004 - a line
        raise OptionError(
            f"a growth is fitted to at least one series of norms at two or more layers; given are {len(norms)} series "
            f"of {sorted({len(series) for series in norms})} norms at {len(layers)} layers"
        )
    table = np.asarray(norms, dtype=float)
    if (ends := _ends(table)) is not None:
        return Growth(math.nan, math.nan, math.nan, len(table), *ends)
    logs, passed = np.log(table), np.asarray(layers, dtype=float)
    slopes = np.array([np.polyfit(passed, series, 1)[0] for series in logs])
    middle = float(slopes.mean())
    half = _half_width(slopes)
    rate, low, high = (math.exp(log) for log in (middle, middle - half, middle + half))
    mean = logs.mean(axis=0)
    stray = math.exp(float(np.abs(mean - np.polyval(np.polyfit(passed, mean, 1), passed)).max()))
    judged = _judge(low, high, stray) if len(table) > 1 else (NOT_DECIDED, "one seed has no interval")
    return Growth(rate, low, high, len(table), *judged)


def _ends(table: np.ndarray) -> tuple[str, str] | None:
    """Return verdict and reason of series with values that have no logarithm."""
    if np.isnan(table).any() or (table < 0).any():
        return NOT_DECIDED, "a norm is not a number of at least 0"
    zero, infinite = (table == 0).any(), np.isinf(table).any()
    if zero and infinite:
        return NOT_DECIDED, "some norms became 0 and others infinite"
    if zero:
        return "vanishes", "a norm became 0, below the smallest number of its precision"
    return ("explodes", "a norm became infinite, above the largest number of its precision") if infinite else None


def _half_width(slopes: np.ndarray) -> float:
    if slopes.size < 2:  # noqa: PLR2004 - a spread needs two
        return math.inf
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, slopes.size - 1) * slopes.std(ddof=1) / math.sqrt(slopes.size))


def _judge(low: float, high: float, stray: float) -> tuple[str, str]:
    if stray >= STRAY:
        return NOT_DECIDED, f"the norms stray from one rate by a factor of {stray:.3g}"
    limit = f"{1 / LIMIT:.3g}"
    if low > LIMIT:
        return "explodes", f"all of the interval is above {LIMIT}"
    if high < 1 / LIMIT:
        return "vanishes", f"all of the interval is below {limit}"
    if low >= 1 / LIMIT and high <= LIMIT:
        return "stable", f"all of the interval is between {limit} and {LIMIT}"
    return NOT_DECIDED, f"the interval reaches across {LIMIT if high > LIMIT else limit}"
