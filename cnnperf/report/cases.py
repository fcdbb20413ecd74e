"""The cases of a run as the report looks at them: by axes, and in the order in which they were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from cnnperf.records.case import AXIS_BY_NAME, LATER, Case
from cnnperf.records.metrics import Value
from cnnperf.runs.pairs import UNSURE, Cases, verdict_on
from cnnperf.units import ABSENT, format_factor, format_percent, format_ratio

Format = tuple[str, str, int, tuple[str, ...]]
Key = TypeVar("Key", bound=Hashable)


def format_of(case: Case) -> Format:
    """Return in what form a case runs: precision, layout, images' size in pixels, and words for what is not usual."""
    return case.precision, case.layout, case.image_size, tuple(case.sizes(LATER))


def format_text(stored: Format) -> str:
    """Return the words for `format_of`: `fp32, contiguous, 32 x 32 images`."""
    precision, layout, size, others = stored
    return ", ".join((precision, layout, f"{size} x {size} images", *others))


def distinct(cases: Iterable[Case], key: Callable[[Case], Key]) -> list[Key]:
    """Return the different keys of the cases in the order of their first appearance."""
    return list(dict.fromkeys(key(case) for case in cases))


def phases_of(cases: Iterable[Case]) -> list[str]:
    """Return the phases of the cases in the order of the axis, then any that the axis does not name."""
    order = {phase: rank for rank, phase in enumerate(AXIS_BY_NAME["phase"].allowed)}
    return sorted(distinct(cases, lambda case: case.phase), key=lambda phase: order.get(phase, len(order)))


def value_of(cases: Cases, case: Case, metric: str) -> Value:
    """Return a value of a case, NaN where the case or the metric is missing."""
    record = cases.get(case)
    return Value(math.nan) if record is None else record.values.get(metric, Value(math.nan))


def ratio_text(quotient: Value) -> str:
    """Write a ratio with its interval: `1.21x [1.17, 1.25]`, or `unsure [0.97, 1.05]` where that includes 1."""
    if math.isnan(quotient.value):
        return ABSENT
    if quotient.low is None or quotient.high is None:
        return format_ratio(quotient.value)
    first = UNSURE if verdict_on(quotient) == UNSURE else format_ratio(quotient.value)
    return f"{first} [{format_factor(quotient.low)}, {format_factor(quotient.high)}]"


def share_text(share: Value) -> str:
    """Return a share with its interval."""
    if math.isnan(share.value) or share.low is None or share.high is None:
        return format_percent(share.value)
    return f"{format_percent(share.value)} [{format_percent(share.low)}, {format_percent(share.high)}]"
