"""Level shifts in a series of runs: where a time became another one and stayed so.

Spikes are no shifts, and neither is a drift. Runs that follow each other are alike (the same night, the same neighbours
on the machine), and a rule that takes them for independent finds a shift in every quiet week. So the candidates of a
standard segmentation have to survive a test that knows how alike they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special  # scipy.stats takes a second to load

from cnnperf.errors import CnnperfError
from cnnperf.extras import needs_extra

LEAST_RUNS = 8
"""Series that are shorter are not searched."""

LEAST_LASTING = 3
"""Runs that a level must last at the end of a series, where it may go on."""

LEAST_INSIDE = 5
"""Runs that a level must last in between and at the beginning: two spikes close together are none."""

LEVEL = 0.0005
"""Two-sided error of the test of one candidate; `scripts/history_study.py` measures what it means for whole series."""

PENALTY = 8.0  # of the segmentation for each shift, in units of the noise's variance: generous, the test decides
SPIKE = 4.0  # times the noise that a run is away from the runs before it and after it
NEIGHBOURS = 3  # runs on either side that a spike is told from
MOST_ALIKE = 0.9
TREND_RUNS = 8  # from which on a trend can be told from a shift
INSIDE = 3.84  # 95 % quantile of chi squared with one degree of freedom


@dataclass(frozen=True)
class Shift:
    """Level shift of a series of log values.

    Attributes:
        index: Of the first run at the new level.
        earliest: The first index that it may be as well, by the likelihood at 95 %.
        latest: The last one.
        size: Of the shift, as a difference of logs.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    index: int
    earliest: int
    latest: int
    size: float
    low: float
    high: float


def find_shifts(logs: Sequence[float], least: float, level: float = LEVEL) -> list[Shift]:
    """Find level shifts.

    Spikes are flattened; the series is segmented by the penalised least squares of the package ruptures (Truong, Oudre
    and Vayatis, "Selective review of offline change point detection methods", Signal Processing 167, 2020); then the
    least certain candidate is taken out again and again until all that are left are certain. A candidate is tested by
    the regression of both levels on a step and a common trend, with errors of an autoregression of order one (Prais and
    Winsten, "Trend estimators and serial correlation", Cowles Commission 383, 1954), whose correlation is estimated
    within the segments and corrected for their shortness (Kendall, "Note on bias in the estimation of autocorrelation",
    Biometrika 41, 1954).

    Args:
        logs: Log of one value a run, in the order of time.
        least: Smallest shift that matters, as a difference of logs.
        level: Two-sided error of the test of a candidate.

    Raises:
        CnnperfError: If a value is not a finite number, or ruptures is not installed.
    """
    series = np.asarray(logs, dtype=float)
    if not np.isfinite(series).all():
        raise CnnperfError("a series of logs has a value that is not finite: a time was not above 0")
    if series.size < LEAST_RUNS:
        return []
    noise = _noise(series)
    flat = _without_spikes(series, noise)
    ends = _segments(flat / noise)
    while len(ends) > 2:  # noqa: PLR2004 - the two ends of the series
        alike = _autocorrelation(flat, ends)
        doubts = [_doubt(flat, ends, place, alike, least) for place in range(1, len(ends) - 1)]
        worst = int(np.argmax(doubts))
        if doubts[worst] <= level:
            break
        del ends[worst + 1]
    alike = _autocorrelation(flat, ends)
    return [_shift(flat, ends, place, alike) for place in range(1, len(ends) - 1)]


def _noise(series: np.ndarray) -> float:
    """Return the spread from run to run, of which shifts and spikes are too few to matter."""
    steps = np.diff(series)
    spread = float(np.median(np.abs(steps - np.median(steps)))) / special.ndtri(0.75) / math.sqrt(2)
    return max(float(spread), 1e-9)


def _without_spikes(series: np.ndarray, noise: float) -> np.ndarray:
    """Put each run that is far from those before it and from those after it at the nearer of the two levels."""
    inner = series[1:-1]
    before, after = _levels_before(series)[1:-1], _levels_before(series[::-1])[::-1][1:-1]
    near = np.where(np.abs(inner - before) <= np.abs(inner - after), before, after)
    flat = series.copy()
    flat[1:-1] = np.where(np.abs(inner - near) > SPIKE * noise, near, inner)
    return flat


def _levels_before(series: np.ndarray) -> np.ndarray:
    """Return for each run the median of up to `NEIGHBOURS` runs before it; the first run is its own level."""
    levels = series.copy()
    for place in range(1, NEIGHBOURS):
        levels[place] = np.median(series[:place])
    levels[NEIGHBOURS:] = np.median(sliding_window_view(series[:-1], NEIGHBOURS), axis=1)
    return levels


def _segments(scaled: np.ndarray) -> list[int]:
    with needs_extra("history", "the history"):
        import ruptures
    method: Any = ruptures.KernelCPD(kernel="linear", min_size=LEAST_LASTING)
    return [0, *map(int, method.fit(scaled.reshape(-1, 1)).predict(pen=PENALTY))]


def _autocorrelation(series: np.ndarray, ends: Sequence[int]) -> float:
    """Return how alike neighbouring runs are, from 0 to `MOST_ALIKE`."""
    parts = [series[begin:end] - series[begin:end].mean() for begin, end in pairwise(ends)]
    squares = sum(float(part @ part) for part in parts)
    if squares == 0:
        return 0.0
    pairs = sum(part.size - 1 for part in parts)
    raw = sum(float(part[1:] @ part[:-1]) for part in parts) / squares * series.size / pairs
    return float(min(MOST_ALIKE, max(0.0, raw + (1 + 3 * raw) * len(parts) / series.size)))


def _doubt(series: np.ndarray, ends: Sequence[int], place: int, alike: float, least: float) -> float:
    """Return the probability of such a step by chance; above 1 for one that cannot count."""
    begin, step, end = ends[place - 1 : place + 2]
    short = step - begin < LEAST_INSIDE or (end - step < LEAST_INSIDE and end < series.size)
    size, error, freedom = _step(series[begin:end], step - begin, alike)
    if short or abs(size) < least or not _lasts(series[step:end], float(np.median(series[begin:step])), size):
        return 1 + 1 / (1 + abs(size))  # the smallest first
    return float(2 * special.stdtr(freedom, -abs(size) / error)) if error > 0 else 0.0


def _lasts(new: np.ndarray, old: float, size: float) -> bool:
    """Return whether a short end of a series is all at the new level: two spikes of three runs would pass for one."""
    return new.size >= LEAST_INSIDE or bool(np.all((new - old) / size > 0.5))  # noqa: PLR2004 - nearer to the new level


def _shift(series: np.ndarray, ends: Sequence[int], place: int, alike: float) -> Shift:
    begin, step, end = ends[place - 1 : place + 2]
    size, error, freedom = _step(series[begin:end], step - begin, alike)
    reach = float(special.stdtrit(freedom, 0.975)) * error
    inside = [begin + index for index in _places(series[begin:end], alike)]
    return Shift(step, min([step, *inside]), max([step, *inside]), size, size - reach, size + reach)


def _places(series: np.ndarray, alike: float) -> list[int]:
    """Return where a step could be almost as well as where it fits best."""
    squares = {
        place: _residual(series, _design(series.size, place), alike)
        for place in range(LEAST_LASTING, series.size - LEAST_LASTING + 1)
    }
    best = min(squares.values())
    if best <= 0:
        return [place for place, found in squares.items() if found <= 0]
    return [place for place, found in squares.items() if series.size * math.log(found / best) <= INSIDE]


def _step(series: np.ndarray, place: int, alike: float) -> tuple[float, float, float]:
    """Return the size of a step, its standard error and its degrees of freedom."""
    design = _design(series.size, place)
    turned, target = _independent(design, alike), _independent(series[:, None], alike)[:, 0]
    found, *_ = np.linalg.lstsq(turned, target, rcond=None)
    left = target - turned @ found
    freedom = max(1, series.size - design.shape[1])
    covariance = np.linalg.pinv(turned.T @ turned) * float(left @ left) / freedom
    return float(found[1]), math.sqrt(max(0.0, covariance[1, 1])), max(1.0, freedom * (1 - alike) / (1 + alike))


def _residual(series: np.ndarray, design: np.ndarray, alike: float) -> float:
    turned, target = _independent(design, alike), _independent(series[:, None], alike)[:, 0]
    left = target - turned @ np.linalg.lstsq(turned, target, rcond=None)[0]
    return float(left @ left)


def _design(size: int, place: int) -> np.ndarray:
    """Return a constant, a step and, where there are runs enough, a trend, one column each."""
    runs = np.arange(size)
    columns = [np.ones(size), (runs >= place).astype(float), runs - runs.mean()]
    return np.column_stack(columns[: 3 if size >= TREND_RUNS else 2])


def _independent(columns: np.ndarray, alike: float) -> np.ndarray:
    """Turn what is correlated from row to row into what is not."""
    return np.vstack([math.sqrt(1 - alike**2) * columns[:1], columns[1:] - alike * columns[:-1]])
