"""Cases and values of a run as reports write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from cnnperf.records.case import AXIS_BY_NAME, LATER, Case
from cnnperf.records.metrics import Value
from cnnperf.runs.pairs import Share
from cnnperf.runs.ratios import Ratio
from cnnperf.stats.simultaneous import SAME, UNSURE
from cnnperf.units import ABSENT, format_factor, format_percent, format_quantity, format_ratio

Format = tuple[str, str, int, tuple[str, ...]]
Key = TypeVar("Key", bound=Hashable)

UNPAIRED = "~"
"""Mark in front of a ratio of cases that were measured one after the other."""


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


def ratio_text(ratio: Ratio | None) -> str:
    """Write a ratio with its interval: `1.21x [1.17, 1.25]`, `same [0.99, 1.01]`, or `unsure [0.97, 1.05]`.

    A ratio that is not paired begins with `UNPAIRED`.
    """
    if ratio is None:
        return ABSENT
    text = factor_text if ratio.paired else unpaired_text
    return text(ratio.value, word_of(ratio.verdict))


def word_of(verdict: str) -> str:
    """Return the word that stands in place of a ratio with a verdict; empty where the ratio is written."""
    return verdict if verdict in {SAME, UNSURE} else ""


def unpaired_text(quotient: Value, word: str = "") -> str:
    """Write a quotient of values that were measured one after the other: `~1.21x [1.17, 1.25]`."""
    text = factor_text(quotient, word)
    return text if text == ABSENT else UNPAIRED + text


def factor_text(quotient: Value, word: str = "") -> str:
    """Write a quotient with its interval: `1.21x [1.17, 1.25]`, the word in place of its value if there is one."""
    if math.isnan(quotient.value):
        return ABSENT
    first = word or format_ratio(quotient.value)
    if quotient.low is None or quotient.high is None:
        return first
    return f"{first} [{format_factor(quotient.low)}, {format_factor(quotient.high)}]"


def share_text(share: Share) -> str:
    """Write a share with its interval: `40% [35%, 45%]`; one that is not paired begins with `UNPAIRED`."""
    value, mark = share.share, "" if share.paired else UNPAIRED
    if math.isnan(value.value):
        return ABSENT
    if value.low is None or value.high is None:
        return mark + format_percent(value.value)
    return f"{mark}{format_percent(value.value)} [{format_percent(value.low)}, {format_percent(value.high)}]"


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
