"""Ratios of two measured values, with an interval made from theirs."""

from __future__ import annotations

import math
import sys

from cnnperf.records.metrics import Value

LARGEST = math.log(sys.float_info.max)
"""Above which a logarithm is that of no float64."""


def exp(power: float) -> float:
    """Return the exponential, infinite where no float64 is large enough."""
    return math.exp(power) if not power > LARGEST else math.inf


def expm1(power: float) -> float:
    """Return the exponential less 1, infinite where no float64 is large enough."""
    return math.expm1(power) if not power > LARGEST else math.inf


def ratio(numerator: Value, denominator: Value) -> Value:
    """Return the ratio of two independent medians with an approximate interval.

    On a logarithmic scale a ratio is a difference, and the half-widths of independent differences add in quadrature:
    `log high = log r + sqrt(log(n.high / n)^2 + log(d / d.low)^2)`, and the other way round for `low`. This is the
    delta method (Casella and Berger, Statistical Inference, 2nd edition, section 5.5.4) with each half of an interval
    taken by itself, because intervals of medians are lopsided. It is approximate: the ends of 95 % intervals are
    treated as multiples of standard deviations, and between two cases the machine may change more than the rounds of
    either show.

    Returns:
        The ratio; NaN where either value is missing or not above 0, and without an interval where either has none.
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

    The half-widths of independent terms add in quadrature: `high = sum + sqrt((h1 - m1)^2 + (h2 - m2)^2)`, and the
    other way round for `low`: the delta method with each half taken by itself, approximate as that of `ratio`.

    Returns:
        The sum; NaN where either value is missing or not above 0, and without an interval where either has none.
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
    """Return whether the interval of a ratio leaves 1 out; None where there is no interval to tell by."""
    if quotient.low is None or quotient.high is None:
        return None
    return not quotient.low <= 1 <= quotient.high


def recovered_share(plain: Value, costly: Value, improved: Value) -> Value:
    """Return how much of what `costly` takes more than `plain` is gone in `improved`, as a ratio of latencies.

    The share is `(costly - improved) / (costly - plain)`: 1 when the improvement costs nothing over plain, below 0
    when it is slower than what it improves. Its half-width is the first-order propagation of the three half-widths,
    approximate in the same way as that of `ratio`.

    Returns:
        The share; NaN where a value or an interval is missing, or where no cost was seen that could be recovered.
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
    """Return the logarithm of a quotient of two positive ends; a value outside its own interval counts as its end."""
    if larger is None or smaller is None:
        return math.nan
    return max(0.0, math.log(larger) - math.log(smaller))


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0
