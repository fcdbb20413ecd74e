"""Cases and values of a run as reports write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from cnnperf.records.case import AXIS_BY_NAME, LATER, Case
from cnnperf.records.metrics import Value
from cnnperf.runs.pairs import UNSURE, verdict_on
from cnnperf.units import ABSENT, format_factor, format_percent, format_quantity, format_ratio

Format = tuple[str, str, int, tuple[str, ...]]
Key = TypeVar("Key", bound=Hashable)


def format_of(case: Case) -> Format:
    """Return the format of a case: precision, layout, image size in pixels, and words for later axes that are set."""
    return case.precision, case.layout, case.image_size, tuple(case.sizes(LATER))


def format_text(stored: Format) -> str:
    """Write the result of `format_of`: `fp32, contiguous, 32 x 32 images`."""
    precision, layout, size, others = stored
    return ", ".join((precision, layout, f"{size} x {size} images", *others))


def distinct(cases: Iterable[Case], key: Callable[[Case], Key]) -> list[Key]:
    """Return the different keys of the cases in the order of their first appearance."""
    return list(dict.fromkeys(key(case) for case in cases))


def phases_of(cases: Iterable[Case]) -> list[str]:
    """Return the phases of the cases in the order of the axis, then any that the axis does not name."""
    order = {phase: rank for rank, phase in enumerate(AXIS_BY_NAME["phase"].allowed)}
    return sorted(distinct(cases, lambda case: case.phase), key=lambda phase: order.get(phase, len(order)))


def count_text(number: int, noun: str) -> str:
    """Write a number of things: `1 case`, `2 cases`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ratio_text(quotient: Value) -> str:
    """Write a ratio with its interval: `1.21x [1.17, 1.25]`, or `unsure [0.97, 1.05]` where that includes 1."""
    if math.isnan(quotient.value):
        return ABSENT
    if quotient.low is None or quotient.high is None:
        return format_ratio(quotient.value)
    first = UNSURE if verdict_on(quotient) == UNSURE else format_ratio(quotient.value)
    return f"{first} [{format_factor(quotient.low)}, {format_factor(quotient.high)}]"


def share_text(share: Value) -> str:
    """Write a share with its interval: `40% [35%, 45%]`."""
    if math.isnan(share.value) or share.low is None or share.high is None:
        return format_percent(share.value)
    return f"{format_percent(share.value)} [{format_percent(share.low)}, {format_percent(share.high)}]"


def rate_text(images: float) -> str:
    """Write images per second without the unit, which the header of a table names: `12.3k`."""
    return format_quantity(images, "images/s").removesuffix("images/s").rstrip()


def half_width_text(measured: Value) -> str:
    """Write the half-width of an interval to follow a value: ` ±2.1%`; empty where there is none."""
    half = measured.half_width
    return f" ±{format_percent(half)}" if math.isfinite(half) and half >= 0 else ""


def quantity_text(measured: Value, unit: str) -> str:
    """Write a value with the half-width of its interval: `1.23 ms ±2.1%`; images per second without their unit."""
    text = rate_text(measured.value) if unit == "images/s" else format_quantity(measured.value, unit)
    return text + half_width_text(measured)
