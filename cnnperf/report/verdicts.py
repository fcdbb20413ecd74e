"""A comparison for a terminal: the answer, what is behind it, and what could have been seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnperf.records.metrics import METRICS
from cnnperf.report.layout import WIDTH, Row, grid, printable, shorten, wrap
from cnnperf.runs.verdicts import CaseVerdict, Comparison, CounterChange
from cnnperf.stats.ratio import expm1
from cnnperf.stats.sequential import Estimate
from cnnperf.units import ABSENT, format_duration, format_quantity

HEADER = ("", "verdict", "candidate/base", "base", "n", "visible")
ONE_AFTER_THE_OTHER = (
    "The sides were measured one after the other: what else changed on the machine between them counts as the "
    "candidate's. `cnnperf gate` measures in turns."
)
ORDER = ("slower", "not-comparable", "gone", "unsure", "faster", "new", "same")


def comparison_lines(result: Comparison) -> list[str]:
    """Return the answer first, then counters, then times with what could have been seen."""
    lines = [
        *wrap(headline_of(result)),
        *_counters(result),
        *_times(result),
        *_reasons(result),
        *_control(result),
        "",
        *wrap(power_text(result)),
    ]
    return [shorten(printable(line), WIDTH) for line in lines]


def headline_of(result: Comparison) -> str:
    """Return the answer in one sentence."""
    counts = Counter(one.verdict for one in result.cases)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict]) or "no time measured"
    worse = sum(change.kind == "worse" and not change.accepted for change in result.counters)
    parts = [f"{result.candidate} against {result.base}: {told}"]
    if result.withdrawn:
        parts = [f"{result.candidate} against {result.base}: no verdict on time, because the base differs from itself"]
    parts.append(f"{worse} counters worse" if worse else f"no counter worse in {result.counted} cases")
    if result.wrong:
        parts.append(f"{len(result.wrong)} cases give wrong results")
    return f"{'; '.join(parts)} ({format_duration(result.seconds)})."


def _times(result: Comparison) -> list[str]:
    rows = [_row(one) for one in _sorted(result.cases)]
    return ["", f"time of {result.candidate} over {result.base}", *grid(HEADER, rows)] if rows else []


def _counters(result: Comparison) -> list[str]:
    lines = [f"  {label}: wrong result: {reason}" for label, reason in (result.wrong or {}).items()]
    return lines + [f"  {change_text(change)}" for change in result.counters]


def change_text(change: CounterChange) -> str:
    """Write a counter or a result before and after."""
    unit = METRICS[change.name].unit if change.name in METRICS else "1"
    before, after = (ABSENT if value is None else _exact(value, unit) for value in (change.before, change.after))
    accepted = ", accepted" if change.accepted else ""
    return f"{change.case.label()}: {change.name} {before} -> {after} ({change.kind}{accepted})"


def _exact(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}".removesuffix(" 1") if float(value).is_integer() else f"{value:.9g}"


def _sorted(cases: Sequence[CaseVerdict]) -> list[CaseVerdict]:
    return sorted(cases, key=lambda one: ORDER.index(one.verdict))


def _row(one: CaseVerdict) -> Row:
    found = one.found
    return (
        one.case.label(),
        one.verdict,
        ABSENT if found is None else interval_text(found),
        ABSENT if one.base_seconds is None else format_quantity(one.base_seconds, "s"),
        ABSENT if found is None else str(found.count),
        ABSENT if found is None else f"{expm1(found.visible):+.1%}",
    )


def interval_text(found: Estimate) -> str:
    """Write a ratio less 1 with its interval."""
    middle, low, high = (expm1(value) for value in (found.middle, found.low, found.high))
    return f"{middle:+.1%} [{low:+.1%}, {high:+.1%}]"


def _reasons(result: Comparison) -> list[str]:
    """Return why, one line a reason: of many cases with the same one the first is named."""
    cases: dict[str, list[CaseVerdict]] = {}
    for one in _sorted(result.cases):
        if one.verdict not in {"same", "faster"}:
            cases.setdefault(one.reason, []).append(one)
    return (
        ["", *(line for reason, those in cases.items() for line in wrap(f"{_names(those)}: {reason}"))] if cases else []
    )


def _names(cases: Sequence[CaseVerdict]) -> str:
    first, others = cases[0].case.label(), len(cases) - 1
    return f"{first} and {others} more" if others else first


def _control(result: Comparison) -> list[str]:
    if not result.withdrawn:
        return []
    cases = ", ".join(f"{one.case.label()} {interval_text(one.found)}" for one in result.control)
    return [
        "",
        *wrap(f"the base against itself should show nothing, but did: {cases}. Something disturbs this machine."),
    ]


def power_text(result: Comparison) -> str:
    """Return which slowdown could have been seen."""
    seen = [expm1(one.found.visible) for one in result.cases if one.found is not None]
    tolerance = result.rule.tolerance
    others = "".join(f", {limit:.1%} in {glob!r}" for glob, limit in tolerance.overrides)
    allowed = f"Allowed is {tolerance.general:.1%} a case{others}; half of it is reported."
    if not seen:
        return f"No time was measured. {allowed}"
    promise = f"False alarms: at most {result.rule.error:.0%} of runs." if result.paired else ONE_AFTER_THE_OTHER
    return (
        f"{allowed} In the case seen best, a slowdown of {min(seen):.1%} would have been found 19 times out "
        f"of 20, in the one seen worst, {max(seen):.1%}. {promise}"
    )
