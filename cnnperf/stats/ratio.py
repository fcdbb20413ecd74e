"""Ratios and sums of measured values, with intervals propagated from the values."""

from __future__ import annotations

import math
import sys

from cnnperf.records.metrics import Value

LARGEST = math.log(sys.float_info.max)
"""Logarithm of the largest float64."""


def exp(power: float) -> float:
    """Return the exponential; infinity if it is too large for a float64."""
    return math.inf if power > LARGEST else math.exp(power)


def expm1(power: float) -> float:
    """Return the exponential minus 1; infinity if it is too large for a float64."""
    return math.inf if power > LARGEST else math.expm1(power)


def ratio(numerator: Value, denominator: Value) -> Value:
    """Return the ratio of two independent medians with an approximate interval.

    On a logarithmic scale a ratio is a difference, and the half-widths of independent differences add in quadrature:
    `log high = log r + sqrt(log(n.high / n)^2 + log(d / d.low)^2)`, and correspondingly for `low`. This is the delta
    method (Casella and Berger, Statistical Inference, 2nd edition, section 5.5.4) applied to each half of an interval
    separately, because intervals of medians are asymmetric. It is approximate: it treats the ends of 95 % intervals as
    multiples of standard deviations, and the machine may change between two cases by more than the rounds of either
    show.

    Returns:
        The ratio; NaN if either value is not finite or not above 0; without an interval if either value has none.
    """
    if not (_positive(numerator.value) and _positive(denominator.value)):
        return Value(math.nan)
    middle = numerator.value / denominator.value
    ends = (numerator.low, numerator.high, denominator.low, denominator.high)
    if any(end is None or not _positive(end) for end in ends):
        return Value(middle)
    up = math.hypot(_log(numerator.high, numerator.value), _log(denominator.value, denominator.low))
    down = math.hypot(_log(numerator.value, numerator.low), _log(denominator.high, denominator.value))
    return Value(middle, middle * math.exp(-down), middle * exp(up))


def total(first: Value, second: Value) -> Value:
    """Return the sum of two independent medians with an approximate interval.

    The half-widths of independent terms add in quadrature: `high = sum + sqrt((h1 - m1)^2 + (h2 - m2)^2)`, and
    correspondingly for `low`. It is approximate for the reasons given in `ratio`.

    Returns:
        The sum; NaN if either value is not finite or not above 0; without an interval if either value has none.
    """
    if not (_positive(first.value) and _positive(second.value)):
        return Value(math.nan)
    middle = first.value + second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Value(middle)
    down = math.hypot(max(0.0, first.value - first.low), max(0.0, second.value - second.low))
    up = math.hypot(max(0.0, first.high - first.value), max(0.0, second.high - second.value))
    return Value(middle, middle - down, middle + up)


def sees_difference(quotient: Value) -> bool | None:
    """Return whether the interval of a ratio excludes 1; None if the ratio has no interval."""
    if quotient.low is None or quotient.high is None:
        return None
    return not quotient.low <= 1 <= quotient.high


def recovered_share(plain: Value, costly: Value, improved: Value) -> Value:
    """Return the share of the extra latency of `costly` over `plain` that `improved` saves.

    The share is `(costly - improved) / (costly - plain)`: 1 if `improved` is as fast as `plain`, below 0 if it is
    slower than `costly`. Its half-width is the first-order propagation of the three half-widths, approximate for the
    reasons given in `ratio`.

    Returns:
        The share; NaN if a value or an interval is missing, or if `costly` is not significantly slower than `plain`.
    """
    if not sees_difference(ratio(costly, plain)) or not costly.value > plain.value:
        return Value(math.nan)
    cost, gain = costly.value - plain.value, costly.value - improved.value
    share = gain / cost
    half = math.hypot(
        _half(costly) * (1 - share) / cost,
        _half(improved) / cost,
        _half(plain) * share / cost,
    )
    return Value(share) if math.isnan(half) else Value(share, share - half, share + half)


def _half(value: Value) -> float:
    return value.half_width * value.value


def _log(larger: float | None, smaller: float | None) -> float:
    """Return the log of a ratio of positive numbers, at least 0: a value outside its interval counts as its end."""
    if larger is None or smaller is None:
        return math.nan
    return max(0.0, math.log(larger) - math.log(smaller))


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
