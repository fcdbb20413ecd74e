"""Ratios of latencies between the cases of one run, each with its interval and a verdict that holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.stats.ratio import ratio
from cnnperf.stats.simultaneous import ABOVE, BELOW, SMALLEST_DIFFERENCE, UNKNOWN, UNSURE, verdicts_on
from cnnperf.units import format_factor

Cases = Mapping[Case, CaseRecord]


@dataclass(frozen=True)
class Ratio:
    """Latency of a case over that of another case of the run.

    Attributes:
        numerator: Case whose latency is divided.
        denominator: Case by whose latency it is divided.
        value: The ratio with its 95 % interval; `rounds` is the number of cycles of paired cases.
        paired: Whether both cases were measured side by side; otherwise the value is a quotient of two medians, whose
            interval misses what changed between them.
        verdict: `above`, `below`, `same`, `unsure` or `unknown`; see `verdicts_on`.
        freedom: Degrees of freedom of a value over several processes, one less than these; None for those of the number
            of cycles.
    """

    numerator: Case
    denominator: Case
    value: Value
    paired: bool = False
    verdict: str = UNKNOWN
    freedom: int | None = None


Ratios = Mapping[tuple[Case, Case], Ratio]
"""Ratios by numerator and denominator."""


def value_of(record: CaseRecord | None, metric: str) -> Value:
    """Return the value of a metric; NaN where there is no record or no such value."""
    missing = Value(math.nan)
    return missing if record is None else record.values.get(metric, missing)


def latency_ratio(numerator: CaseRecord, denominator: CaseRecord) -> Ratio:
    """Return the ratio of two latencies without a verdict: the paired one if the cases were measured side by side."""
    cases = numerator.case, denominator.case
    over, inverse = numerator.over_entry(denominator), denominator.over_entry(numerator)
    entry = over or inverse
    if entry is None:
        return Ratio(*cases, ratio(value_of(numerator, "latency"), value_of(denominator, "latency")))
    value = entry.ratio if entry is over else entry.ratio.scaled_inverse(1.0)
    return Ratio(*cases, value, paired=True, freedom=entry.processes - 1 if entry.processes else None)


def ratios_of(
    cases: Cases, compared: Iterable[tuple[Case, Case]], smallest: float | None = SMALLEST_DIFFERENCE
) -> dict[tuple[Case, Case], Ratio]:
    """Return ratios with verdicts that hold for all of them together; see `verdicts_on`.

    Args:
        cases: Records by case.
        compared: Numerator and denominator of every ratio that is shown of the run.
        smallest: Smallest difference that matters, as a fraction; None for the default.
    """
    ratios = {pair: latency_ratio(cases[pair[0]], cases[pair[1]]) for pair in compared}
    least = SMALLEST_DIFFERENCE if smallest is None else smallest
    freedoms = [each.freedom for each in ratios.values()]
    verdicts = verdicts_on([each.value for each in ratios.values()], least, freedoms)
    return {
        pair: replace(ratios[pair], verdict=_as_written(ratios[pair].value, verdict))
        for pair, verdict in zip(ratios, verdicts, strict=True)
    }


def _as_written(value: Value, verdict: str) -> str:
    """Return `unsure` in place of a difference whose interval has an end that is written as 1.00."""
    ends = (value.low, value.high)
    touches = any(end is not None and format_factor(end) == format_factor(1.0) for end in ends)
    return UNSURE if touches and verdict in {ABOVE, BELOW} else verdict
