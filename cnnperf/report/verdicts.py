"""A comparison for a terminal: the result, its numbers, and the slowdown that could have been detected."""

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


def comparison_lines(result: Comparison, *, verbose: bool = False) -> list[str]:
    """Return the result first, then counters, times and the slowdown that could have been detected.

    Args:
        result: The comparison.
        verbose: Whether each counter of each case has a line, and not each counter one for all cases.
    """
    lines = [
        *wrap(headline_of(result)),
        *(part for line in result_lines(result, verbose=verbose) for part in wrap(f"  {line}", rest="    ")),
        *_times(result),
        *_reasons(result),
        *_control(result),
        "",
        *wrap(power_text(result)),
    ]
    return [shorten(printable(line), WIDTH) for line in lines]


def headline_of(result: Comparison) -> str:
    """Return the result in one sentence."""
    verdicts = ", ".join(counts_of(result)) or "no time measured"
    worse = sum(change.kind == "worse" and not change.accepted for change in result.counters)
    if result.withdrawn:
        verdicts = "no verdict on time, because the base differs from itself"
    parts = [f"{result.candidate} against {result.base}: {verdicts}"]
    parts.append(f"{worse} counters worse" if worse else f"no counter worse in {result.counted} cases")
    if result.wrong:
        parts.append(f"{len(result.wrong)} cases give wrong results")
    took = f" ({format_duration(result.seconds)})" if result.seconds else ""
    return f"{'; '.join(parts)}{took}."


def counts_of(result: Comparison) -> list[str]:
    """Return the number of cases of each verdict, such as `2 slower`."""
    counts = Counter(case.verdict for case in result.cases)
    return [f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict]]


def result_lines(result: Comparison, *, verbose: bool = True) -> list[str]:
    """Return a line for each wrong result and each counter that differs, or one for all cases with the counter."""
    lines = [f"{label}: wrong result: {reason}" for label, reason in (result.wrong or {}).items()]
    if verbose:
        return lines + [_change_text(change) for change in result.counters]
    groups: dict[tuple[str, str, bool], list[CounterChange]] = {}
    for change in result.counters:
        groups.setdefault((change.name, change.kind, change.accepted), []).append(change)
    return lines + [_group_text(group, result.counted) for group in groups.values()]


def ordered(cases: Sequence[CaseVerdict]) -> list[CaseVerdict]:
    """Return cases in the order of their verdicts."""
    return sorted(cases, key=lambda case: ORDER.index(case.verdict))


def verdict_row(case: CaseVerdict) -> Row:
    """Return the cells of a case, for `HEADER`."""
    base = ABSENT if case.base_seconds is None else format_quantity(case.base_seconds, "s")
    if case.found is None:
        return case.case.label(), case.verdict, ABSENT, base, ABSENT, ABSENT
    visible = f"{expm1(case.found.visible):+.1%}"
    return case.case.label(), case.verdict, _interval_text(case.found), base, str(case.found.count), visible


def _times(result: Comparison) -> list[str]:
    rows = [verdict_row(case) for case in ordered(result.cases)]
    return ["", f"time of {result.candidate} over {result.base}", *grid(HEADER, rows)] if rows else []


def _change_text(change: CounterChange) -> str:
    unit = METRICS[change.name].unit if change.name in METRICS else "1"
    before, after = (ABSENT if value is None else _exact(value, unit) for value in (change.before, change.after))
    accepted = ", accepted" if change.accepted else ""
    return f"{change.case.label()}: {change.name} {before} -> {after} ({change.kind}{accepted})"


def _group_text(changes: Sequence[CounterChange], counted: int) -> str:
    """Return one line for a counter in several cases: `flop +24.7% in all 6 cases: 611 Mflop -> 762 Mflop (worse)`."""
    first = changes[0]
    if len(changes) == 1:
        return _change_text(first)
    where = f"all {counted} cases" if len(changes) == counted else f"{len(changes)} of {counted} cases"
    pairs = {(change.before, change.after) for change in changes}
    shifts = sorted({_shift(change) for change in changes} - {""}, key=lambda text: float(text.rstrip("%")))
    size = f" {' to '.join(dict.fromkeys((shifts[0], shifts[-1])))}" if shifts else ""
    unit = METRICS[first.name].unit if first.name in METRICS else "1"
    before, after = (ABSENT if value is None else format_quantity(value, unit) for value in (first.before, first.after))
    example = "" if len(pairs) == 1 else f", in {first.case.label()}"
    accepted = ", accepted" if first.accepted else ""
    return f"{first.name}{size} in {where}{example}: {before} -> {after} ({first.kind}{accepted})"


def _shift(change: CounterChange) -> str:
    """Return the relative change; empty where there is none to relate to."""
    return f"{change.after / change.before - 1:+.1%}" if change.before and change.after is not None else ""


def _exact(value: float, unit: str) -> str:
    if not float(value).is_integer():
        return f"{value:.9g}"
    return f"{value:,.0f}" if unit == "1" else f"{value:,.0f} {unit}"


def _interval_text(found: Estimate) -> str:
    """Write a log ratio with its interval as a ratio less 1: `+2.0% [+1.0%, +3.0%]`."""
    middle, low, high = (expm1(value) for value in (found.middle, found.low, found.high))
    return f"{middle:+.1%} [{low:+.1%}, {high:+.1%}]"


def _reasons(result: Comparison) -> list[str]:
    """Return a line per reason with the first of its cases."""
    cases: dict[str, list[CaseVerdict]] = {}
    for case in ordered(result.cases):
        if case.verdict not in {"same", "faster"}:
            cases.setdefault(case.reason, []).append(case)
    lines = []
    for reason, group in cases.items():
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines += wrap(f"{group[0].case.label()}{others}: {reason}")
    return ["", *lines] if lines else []


def _control(result: Comparison) -> list[str]:
    if not result.withdrawn:
        return []
    cases = ", ".join(f"{control.case.label()} {_interval_text(control.found)}" for control in result.control)
    text = f"the base against itself should show nothing, but did: {cases}. Something disturbs this machine."
    return ["", *wrap(text)]


def power_text(result: Comparison) -> str:
    """Return the slowdown that could have been detected."""
    visible = [expm1(case.found.visible) for case in result.cases if case.found is not None]
    tolerance = result.rule.tolerance
    others = "".join(f", {limit:.1%} in {glob!r}" for glob, limit in tolerance.overrides)
    slowdown = f"a slowdown of {tolerance.general:.1%} a case{others}"
    allowed = f"Allowed is {slowdown}; half of it is reported if significant."
    if not visible:
        return f"No time was measured. {allowed}"
    promise = f"False alarms: at most {result.rule.error:.0%} of runs." if result.paired else ONE_AFTER_THE_OTHER
    return (
        f"{allowed} In the case seen best, a slowdown of {min(visible):.1%} would have been found 19 times out "
        f"of 20, in the one seen worst, {max(visible):.1%}. {promise}"
    )
