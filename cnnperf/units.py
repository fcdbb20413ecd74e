"""Numbers to text: the only place that knows "ms" or "MiB".

Everywhere else quantities are float64 in SI units (seconds, bytes, flop/s); they become text at the last step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ABSENT = "-"
"""What stands for a value that is not there."""

DIGITS = 3


@dataclass(frozen=True)
class Scale:
    """Describe how the values of one unit are written.

    Attributes:
        steps: Factor and text after the number, largest factor first; the last one takes whatever is smaller.
        counted: Whether values below the second step are whole and written without decimals.
    """

    steps: tuple[tuple[float, str], ...]
    counted: bool = False


def _decimal(unit: str, prefixes: str, *, counted: bool = False) -> Scale:
    """Return steps of 1000 up to the last prefix, all above 1."""
    steps = [(1000.0**power, f" {prefix.strip()}{unit}") for power, prefix in enumerate(" " + prefixes)]
    return Scale(tuple(reversed(steps)), counted)


SCALES: Mapping[str, Scale] = {
    "s": Scale(((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns"))),
    "B": Scale(tuple((1024.0**power, f" {prefix}B") for power, prefix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki"), (0, ""))), counted=True),
    "B/s": _decimal("B/s", "kMGT"),
    "flop": _decimal("flop", "kMGTP", counted=True),
    "flop/s": _decimal("flop/s", "kMGTP"),
    # "kimages/s" would be right and unreadable: the prefix stays with the number.
    "images/s": Scale(((1e9, "G images/s"), (1e6, "M images/s"), (1e3, "k images/s"), (1.0, " images/s"))),
}
"""How each unit is written; bytes in binary multiples, bytes a second in decimal ones, as memory and buses are sold."""


def format_quantity(value: float, unit: str) -> str:
    """Write a value with three significant digits and the prefix that suits its size.

    Args:
        value: In SI units. NaN stands for a value that is not there.
        unit: A key of `SCALES`, `ratio` (written as a percentage), `1` (a plain number, exact where it is whole), or
            any other text, which is put behind the number as it is.

    Returns:
        Such as `1.23 ms`, `45.6 MiB`, `12.3 GB/s`, `12.3k images/s`, `62,006`; `-` for NaN.
    """
    if math.isnan(value):
        return ABSENT
    if unit == "ratio":
        return format_percent(value)
    if unit == "1":
        return _number(value)
    if unit not in SCALES or math.isinf(value):
        return f"{_number(value)} {unit}".rstrip()
    return _scaled(value, SCALES[unit])


def format_percent(ratio: float) -> str:
    """Write a ratio as a percentage with two significant digits, or whole from 10 % on: `2.1%`, `72%`, `123%`."""
    if math.isnan(ratio):
        return ABSENT
    if math.isinf(ratio):
        return f"{ratio}%"
    percent = 100 * ratio
    return f"{percent:,.{_decimals(_rounded(percent, 2), 2)}f}%"


def format_ratio(ratio: float) -> str:
    """Write a ratio as a factor with three significant digits, or two decimals from 0.1 to 1: `1.23x`, `0.87x`."""
    return ABSENT if math.isnan(ratio) else f"{format_factor(ratio)}x"


def format_factor(ratio: float) -> str:
    """Write a ratio as `format_ratio` does, without the `x`, for the ends of an interval."""
    if math.isnan(ratio):
        return ABSENT
    size = abs(ratio)
    if size != 0 and not 1e-3 <= size < 1e5:  # NaN was handled; infinity prints as inf
        return f"{ratio:.1e}" if math.isfinite(ratio) else str(ratio)
    rounded = _rounded(ratio, DIGITS if size >= 1 else 2)
    return f"{ratio:.{_decimals(rounded, DIGITS) if size >= 0.1 or size == 0 else 3}f}" if size >= 1 else _below_one(ratio)


def format_duration(seconds: float) -> str:
    """Write how long something took or will take: `0.4 s`, `12 s`, `1 min 20 s`, `2 h 5 min`; `-` for NaN."""
    if not math.isfinite(seconds):
        return ABSENT
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"
