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
"""Numbers of layers from which on one rate can be told from a rate that changes."""


@dataclass(frozen=True)
class Growth:
    """Growth of a gradient for each layer that it passes from the output to the input.

    Attributes:
        rate: Factor a layer, the geometric mean over seeds; NaN where it could not be fitted.
        low: Lower end of its 95 % interval over seeds.
        high: Upper end.
        halves: Factor a layer in the first half of the layers and in the second; NaN where there are no two halves.
        seeds: How many series it was fitted to.
        verdict: `explodes`, `vanishes`, `stable` or `not decided`.
        reason: Why, in words.
    """

    rate: float
    low: float
    high: float
    halves: tuple[float, float]
    seeds: int
    verdict: str
    reason: str


def fit_growth(layers: Sequence[int], norms: Sequence[Sequence[float]]) -> Growth:
    """Fit the growth a layer and judge it.

    Each series of logs is fitted by a line, over all layers and over each half of them; intervals are those of
    Student's t over the slopes of the seeds, because layers of one network are not independent of each other and seeds
    are. A growth need not be one rate, and the interval of the whole line does not tell: so the verdict is by both
    halves. It is `explodes` where both intervals lie above `LIMIT`, `vanishes` where both lie below 1 / `LIMIT`,
    `stable` where both lie between them, and `not decided` otherwise, where the mean series strays from its line by a
    factor of `STRAY`, where there are no two halves, or where a norm is no number. A norm that became 0 has vanished
    and one that became infinite has exploded, whatever the rest does.

    Args:
        layers: How many layers the gradient has passed, one number a norm, in any order.
        norms: For each seed, the norms, all at least 0.

    Raises:
        OptionError: If there are fewer than two layers, no seeds, or series of another length than `layers`.
    """
    if len(set(layers)) < 2 or not norms or any(len(series) != len(layers) for series in norms):  # noqa: PLR2004 - a line
        raise OptionError(
            f"a growth is fitted to at least one series of norms at two or more layers; given are {len(norms)} series "
            f"of {sorted({len(series) for series in norms})} norms at {len(layers)} layers"
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
    """Return the rate of all seeds with its interval."""
    slopes = np.array([np.polyfit(passed, series, 1)[0] for series in logs])
    half = _half_width(slopes)
    middle = float(slopes.mean())
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def _stray(passed: np.ndarray, logs: np.ndarray) -> float:
    """Return the largest factor between the mean series and its line."""
    mean = logs.mean(axis=0)
    return math.exp(float(np.abs(mean - np.polyval(np.polyfit(passed, mean, 1), passed)).max()))


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


def _judged(halves: Sequence[tuple[float, float, float]], seeds: int, stray: float) -> tuple[str, str]:
    """Return verdict and reason."""
    if seeds < 2:  # noqa: PLR2004 - a spread needs two
        return NOT_DECIDED, "one seed has no interval"
    if not halves:
        return NOT_DECIDED, "two depths cannot tell one rate from one that changes"
    if stray >= STRAY:
        return NOT_DECIDED, f"the norms stray from one rate by a factor of {stray:.3g}"
    (first, *first_ends), (second, *second_ends) = halves
    low, high = min(*first_ends, *second_ends), max(*first_ends, *second_ends)
    fitting = (verdict for verdict, (least, most) in BANDS.items() if least <= low and high <= most)
    told = f"{first:.4f} a layer at first and {second:.4f} later"
    verdict = next(fitting, NOT_DECIDED)
    return verdict, f"{told}, {'with intervals' if verdict == NOT_DECIDED else 'surely'} {PLACES[verdict]}"
