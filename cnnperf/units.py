"""Formatting of quantities as text, such as "1.23 ms" or "45.6 MiB".

All other modules hold quantities as float64 in SI units (seconds, bytes, flop/s) and format them last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ABSENT = "-"
"""Text of a missing value."""

_DIGITS = 3
# Numbers outside these ranges are written with an exponent.
_PLAIN = (1e-3, 1e15)
_PLAIN_FACTOR = (0.1, 1e5)
_PLAIN_PERCENT = (0.1, 1e5)
_MINUTE, _HOUR = 60, 3600
_TENTHS_FROM, _TENTHS_BELOW = 0.1, 9.95  # seconds; durations in this range have one decimal


@dataclass(frozen=True)
class Scale:
    """Rule for writing the values of one unit.

    Attributes:
        steps: Pairs of a factor and the text after the number, largest factor first. The last step also takes all
            smaller values.
        counted: Whether values are whole numbers. Those too small for a prefix are then written without decimals.
    """

    steps: tuple[tuple[float, str], ...]
    counted: bool = False


def _scale(unit: str, prefixes: tuple[str, ...], factor: float = 1000.0, *, counted: bool = False) -> Scale:
    steps = [(factor**power, f" {prefix}{unit}") for power, prefix in enumerate(("", *prefixes))]
    return Scale(tuple(reversed(steps)), counted)


SCALES: Mapping[str, Scale] = {
    "s": Scale(((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"))),
    "B": _scale("B", ("Ki", "Mi", "Gi", "Ti"), 1024.0, counted=True),
    "B/s": _scale("B/s", ("k", "M", "G", "T")),
    "flop": _scale("flop", ("k", "M", "G", "T", "P"), counted=True),
    "flop/s": _scale("flop/s", ("k", "M", "G", "T", "P")),
    "Hz": _scale("Hz", ("k", "M", "G")),
    "W": Scale(((1.0, " W"), (1e-3, " mW"))),
    "J/image": Scale(((1.0, " J/image"), (1e-3, " mJ/image"), (1e-6, " µJ/image"))),
    "images": _scale("images", (), counted=True),
    # "kimages/s" would be correct but unreadable, so the prefix stays with the number.
    "calls/s": Scale(((1e6, "M calls/s"), (1e3, "k calls/s"), (1.0, " calls/s"))),
    "images/s": Scale(((1e9, "G images/s"), (1e6, "M images/s"), (1e3, "k images/s"), (1.0, " images/s"))),
}
"""Scale of each unit. Bytes use multiples of 1024, as memory sizes do; bytes per second use 1000, as bus rates do."""


def format_quantity(value: float, unit: str) -> str:
    """Format a value with three significant digits and a prefix that suits its size.

    Args:
        value: The value in SI units; NaN if it is missing.
        unit: A key of `SCALES`, `ratio` (written as a percentage), `1` (a plain number, exact if it is whole), or any
            other text, which is appended unchanged.

    Returns:
        Text such as `1.23 ms`, `45.6 MiB`, `12.3 GB/s`, `12.3k images/s` or `62,006`; `-` for NaN.
    """
    if math.isnan(value):
        return ABSENT
    if unit == "ratio":
        return format_percent(value)
    if unit == "1":
        return _number(value, counted=True)
    if unit not in SCALES or math.isinf(value):
        return f"{_number(value)} {unit}".rstrip()
    return _scaled(value, SCALES[unit])


def format_percent(ratio: float) -> str:
    """Format a ratio as a percentage with one decimal below 10 % and none above: `0.4%`, `2.1%`, `72%`, `123%`."""
    percent = 100 * ratio
    if _PLAIN_PERCENT[0] <= abs(percent) < _PLAIN_PERCENT[1]:
        return f"{percent:.{min(1, _decimals(percent, 2))}f}%"
    return ABSENT if math.isnan(percent) else f"{percent:.2g}%"


def format_ratio(ratio: float) -> str:
    """Format a ratio as a factor with three significant digits, at most two decimals: `1.23x`, `12.3x`, `0.87x`."""
    return ABSENT if math.isnan(ratio) else f"{format_factor(ratio)}x"


def format_factor(ratio: float) -> str:
    """Format a ratio as `format_ratio` does, but without the `x`, for the bounds of an interval."""
    if _PLAIN_FACTOR[0] <= abs(ratio) < _PLAIN_FACTOR[1]:
        return f"{ratio:.{min(2, _decimals(ratio, _DIGITS))}f}"
    return ABSENT if math.isnan(ratio) else f"{ratio:.2g}"


def format_duration(seconds: float) -> str:
    """Format a duration in seconds: `0.4 s`, `12 s`, `1 min 20 s`, `2 h 5 min`; `-` if not finite."""
    if not math.isfinite(seconds):
        return ABSENT
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < _TENTHS_BELOW:
        return format_quantity(seconds, "s") if seconds < _TENTHS_FROM else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // _MINUTE} h {minutes % _MINUTE} min"


def _scaled(value: float, scale: Scale) -> str:
    """Format with the largest step that gives at least 1 after rounding: 999.9 µs becomes 1.00 ms."""
    if value < 0:
        return f"-{_scaled(-value, scale)}"
    if value == 0:
        return f"0{dict(scale.steps)[1.0]}"
    fitting = (step for step in scale.steps if _rounded(value / step[0], _DIGITS) >= 1)
    factor, text = next(fitting, scale.steps[-1])
    return _number(value / factor, counted=scale.counted and factor == 1).replace(",", "") + text


def _number(value: float, *, counted: bool = False) -> str:
    if value == 0 or (counted and abs(value) < _PLAIN[1] and value == round(value)):
        return f"{value:,.0f}"
    if not _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return f"{value:.{_DIGITS}g}"
    return f"{value:,.{_decimals(value, _DIGITS)}f}"


def _decimals(value: float, digits: int) -> int:
    """Return the number of decimals that shows `digits` significant digits after rounding."""
    rounded = abs(_rounded(value, digits))
    return 0 if rounded == 0 else max(0, digits - 1 - math.floor(math.log10(rounded)))


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")
