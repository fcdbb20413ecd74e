"""Growth of a gradient's norm from layer to layer in the backward pass, and the verdict on a deep network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cnnperf.errors import OptionError

LIMIT = 1.1
"""Growth per layer above which a gradient explodes; below its inverse it vanishes. It is tenfold within 24 layers."""

STRAY = 10.0
"""Factor between norms and the fitted line from which on the line does not describe them."""

BATCH_NORM_GROWTH = math.sqrt(math.pi / (math.pi - 1))
"""Growth per layer of the gradient norm, 1.2112, in ReLU networks with batch statistics at initialisation, for wide
layers and large batches. Source: Yang, Pennington, Rao, Sohl-Dickstein, Schoenholz, "A Mean Field Theory of Batch
Normalization", ICLR 2019, https://arxiv.org/abs/1902.08129."""

BANDS = {"explodes": (LIMIT, math.inf), "vanishes": (0.0, 1 / LIMIT), "stable": (1 / LIMIT, LIMIT)}
PLACES = {
    "explodes": f"above {LIMIT}",
    "vanishes": f"below {1 / LIMIT:.3g}",
    "stable": f"between {1 / LIMIT:.3g} and {LIMIT}",
    "not decided": f"across {1 / LIMIT:.3g} or {LIMIT}",
}
CONFIDENCE = 0.95
NOT_DECIDED = "not decided"

LEAST_PLACES = 3
"""Fewest different numbers of layers at which a constant rate can be distinguished from a changing one."""


@dataclass(frozen=True)
class Growth:
    """Growth of a gradient per layer from the output to the input.

    Attributes:
        rate: Factor per layer, the geometric mean over seeds; NaN if it could not be fitted.
        low: Lower end of the 95 % interval of the rate over seeds.
        high: Upper end of the interval.
        halves: Factors per layer in the first and in the second half of the layers; NaN if there are fewer than
            `LEAST_PLACES` layers.
        seeds: Number of fitted series.
        verdict: `explodes`, `vanishes`, `stable` or `not decided`.
        reason: Explanation of the verdict.
    """

    rate: float
    low: float
    high: float
    halves: tuple[float, float]
    seeds: int
    verdict: str
    reason: str


def fit_growth(layers: Sequence[int], norms: Sequence[Sequence[float]]) -> Growth:
    """Fit the growth per layer and judge it.

    A line is fitted to each series of logs, over all layers and over each half of them. Intervals are those of
    Student's t over the slopes of the seeds, because seeds are independent of each other and layers of one network are
    not. The rate may change from layer to layer without widening the interval of the whole line, so the verdict depends
    on both halves. It is `explodes` if both intervals lie above `LIMIT`, `vanishes` if both lie below 1 / `LIMIT` and
    `stable` if both lie between them. It is `not decided` otherwise, and also if the mean series strays from its line
    by a factor of `STRAY`, if there are fewer than `LEAST_PLACES` layers, or if a norm is NaN or negative. A norm of 0
    has vanished and an infinite one has exploded, whatever the other norms are.

    Args:
        layers: Number of layers that the gradient has passed, one for each norm, in any order.
        norms: Norms of each seed, at least 0.

    Raises:
        OptionError: If there are fewer than two layers, no seeds, or series of another length than `layers`.
    """
    if len(set(layers)) < 2 or not norms or any(len(series) != len(layers) for series in norms):  # noqa: PLR2004 - a line
        raise OptionError(
            f"a growth is fitted to at least one series of norms at two or more layers, not to {len(norms)} series of "
            f"{sorted({len(series) for series in norms})} norms at {len(layers)} layers"
        )
    order = np.argsort(layers, kind="stable")
    table, passed = np.asarray(norms, dtype=float)[:, order], np.asarray(layers, dtype=float)[order]
    if (ends := _ends(table)) is not None:
        return Growth(math.nan, math.nan, math.nan, (math.nan, math.nan), len(table), *ends)
    logs = np.log(table)
    rate, low, high = _rate(passed, logs)
    middle = (passed.size - 1) // 2
    parts = [slice(0, middle + 1), slice(middle, None)] if passed.size >= LEAST_PLACES else []
    halves = [_rate(passed[part], logs[:, part]) for part in parts]
    rates = (halves[0][0], halves[1][0]) if halves else (math.nan, math.nan)
    return Growth(rate, low, high, rates, len(table), *_judged(halves, len(table), _stray(passed, logs)))


def _rate(passed: np.ndarray, logs: np.ndarray) -> tuple[float, float, float]:
    """Return the mean rate over seeds and both ends of its interval."""
    slopes = np.array([np.polyfit(passed, series, 1)[0] for series in logs])
    half = _half_width(slopes)
    middle = float(slopes.mean())
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def _stray(passed: np.ndarray, logs: np.ndarray) -> float:
    """Return the largest factor between the mean series and the line fitted to it."""
    mean = logs.mean(axis=0)
    return math.exp(float(np.abs(mean - np.polyval(np.polyfit(passed, mean, 1), passed)).max()))


def _ends(table: np.ndarray) -> tuple[str, str] | None:
    """Return verdict and reason for series with a norm that has no logarithm; None if all norms have one."""
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


def _judged(halves: Sequence[tuple[float, float, float]], seeds: int, stray: float) -> tuple[str, str]:
    """Return verdict and reason."""
    if seeds < 2:  # noqa: PLR2004 - a spread needs two
        return NOT_DECIDED, "one seed has no interval"
    if not halves:
        return NOT_DECIDED, "two depths cannot show whether the rate changes"
    if stray >= STRAY:
        return NOT_DECIDED, f"the norms stray from one rate by a factor of {stray:.3g}"
    (first, *first_ends), (second, *second_ends) = halves
    low, high = min(*first_ends, *second_ends), max(*first_ends, *second_ends)
    rates = f"{first:.4f} a layer at first and {second:.4f} later"
    for verdict, (least, most) in BANDS.items():
        if least <= low and high <= most:
            return verdict, f"{rates}, surely {PLACES[verdict]}"
    return NOT_DECIDED, f"{rates}, with intervals {PLACES[NOT_DECIDED]}"
