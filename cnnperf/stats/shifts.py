"""Level shifts in a series of runs: places where the measured time changes and stays at its new level.

Neither a spike nor a drift is a shift. Consecutive runs are correlated (the same night, the same neighbours on the
machine), and a test that assumes independence finds a shift in every quiet week. The candidates of a standard
segmentation therefore have to pass a test that takes the correlation into account.
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
"""Fewest runs of a series that is searched."""

LEAST_LASTING = 3
"""Fewest runs of a level at the end of a series, where it may continue."""

LEAST_INSIDE = 5
"""Fewest runs of any other level, so that two spikes close together do not count as one."""

LEVEL = 0.0005
"""Two-sided error of the test of one candidate; `scripts/history_study.py` measures the error for whole series."""

PENALTY = 8.0  # of the segmentation for each shift, in units of the noise's variance: low, because the test decides
SPIKE = 4.0  # distance of a spike from the runs before it and after it, in units of the noise
NEIGHBOURS = 3  # runs on either side with which a spike is compared
MOST_CORRELATED = 0.9  # largest autocorrelation that the test assumes
TREND_RUNS = 8  # fewest runs that distinguish a trend from a shift
INSIDE = 3.84  # 95 % quantile of chi squared with one degree of freedom


@dataclass(frozen=True)
class Shift:
    """Level shift of a series of log values.

    Attributes:
        index: Index of the first run at the new level.
        earliest: Lower end of the 95 % likelihood interval of the index.
        latest: Upper end of that interval.
        size: Size of the shift, as a difference of logs.
        low: Lower end of the 95 % interval of the size.
        high: Upper end of that interval.
    """

    index: int
    earliest: int
    latest: int
    size: float
    low: float
    high: float


def find_shifts(logs: Sequence[float], least: float, level: float = LEVEL) -> list[Shift]:
    """Find level shifts.

    Spikes are flattened. The package ruptures segments the series by penalised least squares (Truong, Oudre and
    Vayatis, "Selective review of offline change point detection methods", Signal Processing 167, 2020). Then the least
    certain candidate is removed until all remaining candidates are significant. A candidate is tested by the regression
    of both levels on a step and a common trend, with errors of an autoregression of order one (Prais and Winsten,
    "Trend estimators and serial correlation", Cowles Commission 383, 1954). Its correlation is estimated within the
    segments and corrected for their shortness (Kendall, "Note on bias in the estimation of autocorrelation", Biometrika
    41, 1954).

    Args:
        logs: Log of one value per run, in the order of time.
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
        correlation = _autocorrelation(flat, ends)
        p_values = [_p_value(flat, ends, place, correlation, least) for place in range(1, len(ends) - 1)]
        worst = int(np.argmax(p_values))
        if p_values[worst] <= level:
            break
        del ends[worst + 1]
    correlation = _autocorrelation(flat, ends)
    return [_shift(flat, ends, place, correlation) for place in range(1, len(ends) - 1)]


def _noise(series: np.ndarray) -> float:
    """Return the standard deviation from run to run, robust against shifts and spikes."""
    steps = np.diff(series)
    spread = float(np.median(np.abs(steps - np.median(steps)))) / special.ndtri(0.75) / math.sqrt(2)
    return max(float(spread), 1e-9)


def _without_spikes(series: np.ndarray, noise: float) -> np.ndarray:
    """Move each run that is far from the levels before and after it to the nearer of the two."""
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
    """Return the correlation of neighbouring runs, from 0 to `MOST_CORRELATED`."""
    parts = [series[begin:end] - series[begin:end].mean() for begin, end in pairwise(ends)]
    squares = sum(float(part @ part) for part in parts)
    if squares == 0:
        return 0.0
    pairs = sum(part.size - 1 for part in parts)
    raw = sum(float(part[1:] @ part[:-1]) for part in parts) / squares * series.size / pairs
    return float(min(MOST_CORRELATED, max(0.0, raw + (1 + 3 * raw) * len(parts) / series.size)))


def _p_value(series: np.ndarray, ends: Sequence[int], place: int, correlation: float, least: float) -> float:
    """Return the p-value of a step; a number above 1 for a step that is too short, too small or does not last."""
    begin, step, end = ends[place - 1 : place + 2]
    short = step - begin < LEAST_INSIDE or (end - step < LEAST_INSIDE and end < series.size)
    size, error, freedom = _step(series[begin:end], step - begin, correlation)
    if short or abs(size) < least or not _lasts(series[step:end], float(np.median(series[begin:step])), size):
        return 1 + 1 / (1 + abs(size))  # the smallest step is removed first
    return float(2 * special.stdtr(freedom, -abs(size) / error)) if error > 0 else 0.0


def _lasts(new: np.ndarray, old: float, size: float) -> bool:
    """Return whether every run of a short end of a series is at the new level, unlike two spikes in three runs."""
    return new.size >= LEAST_INSIDE or bool(np.all((new - old) / size > 0.5))  # noqa: PLR2004 - nearer to the new level


def _shift(series: np.ndarray, ends: Sequence[int], place: int, correlation: float) -> Shift:
    begin, step, end = ends[place - 1 : place + 2]
    size, error, freedom = _step(series[begin:end], step - begin, correlation)
    reach = float(special.stdtrit(freedom, 0.975)) * error
    inside = [begin + index for index in _places(series[begin:end], correlation)]
    return Shift(step, min([step, *inside]), max([step, *inside]), size, size - reach, size + reach)


def _places(series: np.ndarray, correlation: float) -> list[int]:
    """Return the places of the step in its 95 % likelihood interval."""
    residuals = {}
    for place in range(LEAST_LASTING, series.size - LEAST_LASTING + 1):
        _, residual, _ = _regression(series, place, correlation)
        residuals[place] = residual
    best = min(residuals.values())
    if best <= 0:
        return [place for place, residual in residuals.items() if residual <= 0]
    return [place for place, residual in residuals.items() if series.size * math.log(residual / best) <= INSIDE]


def _step(series: np.ndarray, place: int, correlation: float) -> tuple[float, float, float]:
    """Return the size of a step, its standard error and its degrees of freedom."""
    size, residual, design = _regression(series, place, correlation)
    freedom = max(1, series.size - design.shape[1])
    variance = np.linalg.pinv(design.T @ design)[1, 1] * residual / freedom
    return size, math.sqrt(max(0.0, variance)), max(1.0, freedom * (1 - correlation) / (1 + correlation))


def _regression(series: np.ndarray, place: int, correlation: float) -> tuple[float, float, np.ndarray]:
    """Return the size of a step, the sum of squared residuals and the decorrelated design matrix."""
    design = _decorrelated(_design(series.size, place), correlation)
    target = _decorrelated(series[:, None], correlation)[:, 0]
    coefficients, *_ = np.linalg.lstsq(design, target, rcond=None)
    residuals = target - design @ coefficients
    return float(coefficients[1]), float(residuals @ residuals), design


def _design(size: int, place: int) -> np.ndarray:
    """Return a constant, a step and, given `TREND_RUNS`, a trend, one column each."""
    runs = np.arange(size)
    columns = [np.ones(size), (runs >= place).astype(float), runs - runs.mean()]
    return np.column_stack(columns[: 3 if size >= TREND_RUNS else 2])


def _decorrelated(columns: np.ndarray, correlation: float) -> np.ndarray:
    """Return columns without the correlation from row to row (the transformation of Prais and Winsten)."""
    return np.vstack([math.sqrt(1 - correlation**2) * columns[:1], columns[1:] - correlation * columns[:-1]])
