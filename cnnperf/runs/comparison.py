"""Comparison of saved runs: two sides, each of one or several runs of one commit.

A run has one process or several, and processes of one commit differ by as much as many changes of code do. With several
runs of each commit the datum is the run, with one run it is the process, and the interval is that of Welch. With one
process on a side there is no verdict on time. What changed on the machine between the runs remains in their difference;
only measuring in turns, as the gate does, excludes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, variance

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.git import UNKNOWN, VARIABLE
from cnnperf.records.machine import Scalar, lasting_facts
from cnnperf.records.metrics import METRICS
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.records.tolerance import Tolerance
from cnnperf.runs.verdicts import CaseVerdict, Comparison, CounterChange, counter_changes
from cnnperf.stats.sequential import POWER, Estimate, Rule

_MORE = "take more with --cnnperf-processes, or save more runs of each commit"

Runs = Sequence[tuple[str, Run]]
"""Names and runs."""


def compare_sides(base: Runs, candidate: Runs, tolerance: Tolerance, *, any_machine: bool = False) -> Comparison:
    """Compare saved runs.

    Args:
        base: At least one run.
        candidate: At least one run.
        tolerance: Largest acceptable slowdown. The error of the suite is divided among its cases.
        any_machine: Compare runs of different environments too.

    Returns:
        A verdict for each case that any run has. `gone` and `new` are cases that one side lacks.

    Raises:
        RunFileError: If a side has several commits, or the environments differ without `any_machine`.
    """
    labels = label_of(base), label_of(candidate)
    if not any_machine:
        check_environments([run for _, run in (*base, *candidate)], "--any-machine compares them all the same")
    before, after = (_records(side) for side in (base, candidate))
    shared = [case for case in before if case in after]
    rule = Rule(tolerance, cases=max(1, len({*before, *after})))
    changes: list[CounterChange] = []
    for case in shared:
        changes += counter_changes(case, _counters(before[case][0]), _counters(after[case][0]))
    missing = [entry for _, run in candidate for entry in run.not_measured]
    lacking = [(case, _reason(case, missing)) for case in before if case not in after]
    verdicts = [_verdict(case, before[case], after[case], rule) for case in shared]
    verdicts += [CaseVerdict(case, "gone", reason) for case, reason in lacking]
    verdicts += [CaseVerdict(case, "new", "the base lacks it") for case in after if case not in before]
    return Comparison(
        labels[0],
        labels[1],
        rule,
        tuple(verdicts),
        counted=len(shared),
        counters=tuple(changes),
        environment=differences(base[0][1].environment, candidate[0][1].environment),
        paired=False,
    )


def unpaired(base: Sequence[float], candidate: Sequence[float], rule: Rule) -> Estimate:
    """Return the log ratio of two independent samples with Welch's interval.

    Source: B. L. Welch, "The generalization of Student's problem when several different population variances are
    involved", Biometrika 34, 1947.

    Args:
        base: Seconds of each process, at least two.
        candidate: Seconds of each process, at least two.
        rule: Rule whose error is divided equally among the cases.
    """
    from scipy import stats

    logs = [[math.log(value) for value in side] for side in (base, candidate)]
    shares = [variance(side) / len(side) for side in logs]
    middle, error = fmean(logs[1]) - fmean(logs[0]), math.sqrt(sum(shares))
    freedom = float(len(base) + len(candidate) - 2)
    if error > 0:
        freedom = sum(shares) ** 2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, logs, strict=True))
    reach = float(stats.t.ppf(1 - rule.error / rule.cases, freedom)) * error
    visible = max(reach, rule.alarm) + float(stats.t.ppf(POWER, freedom)) * error
    return Estimate(middle, middle - reach, middle + reach, len(base) + len(candidate), "process", visible)


def _verdict(case: Case, base: Sequence[CaseRecord], candidate: Sequence[CaseRecord], rule: Rule) -> CaseVerdict:
    times = [_seconds(side) for side in (base, candidate)]
    if not all(times) or not all(0 < value < math.inf for side in times for value in side):
        return CaseVerdict(case, "not-comparable", "a run has no time above 0 for it")
    medians = [median(side) for side in times]
    if min(map(len, times)) == 1:
        reason = f"one process on a side: cannot separate code from process; {_MORE}"
        return CaseVerdict(case, "unsure", reason, None, *medians)
    estimate = unpaired(times[0], times[1], rule.of(case))
    verdict, reason = _judged(estimate, rule.of(case))
    return CaseVerdict(case, verdict, reason, estimate, *medians)


def _judged(estimate: Estimate, rule: Rule) -> tuple[str, str]:
    if estimate.low > 0 and estimate.middle > rule.alarm:
        return "slower", "the interval lies above 1"
    if estimate.high < 0 and estimate.middle < -rule.alarm:
        return "faster", "the interval lies below 1"
    if estimate.high < rule.limit:
        return "same", "a slowdown beyond the tolerance is excluded"
    return "unsure", f"{estimate.count} processes do not tell; {_MORE}, or use `cnnperf gate`"


def _seconds(side: Sequence[CaseRecord]) -> list[float]:
    """Return the seconds of each run, or, where there is one run, those of each of its processes."""
    if len(side) == 1 and side[0].processes:
        return list(side[0].processes)
    timed = [record for record in side if "latency" in record.values]
    return [median(record.processes or (record.values["latency"].value,)) for record in timed]


def _counters(record: CaseRecord) -> dict[str, float]:
    return {name: value.value for name, value in record.values.items() if name in METRICS and METRICS[name].counter}


def _records(side: Runs) -> Mapping[Case, list[CaseRecord]]:
    records: dict[Case, list[CaseRecord]] = {}
    for _, run in side:
        for case, record in run.by_case().items():
            records.setdefault(case, []).append(record)
    return records


def _reason(case: Case, missing: Iterable[NotMeasured]) -> str:
    return next((entry.reason for entry in missing if entry.covers(case)), "the candidate lacks it")


def label_of(side: Runs) -> str:
    """Return the name of a side and its commit.

    Raises:
        RunFileError: If it has several commits, or several runs whose commits are not known.
    """
    commits = sorted({run.commit for _, run in side})
    if len(commits) > 1:
        raise RunFileError(f"runs of several commits on one side: {', '.join(commits)}; name a folder or file of one")
    if len(side) > 1 and commits[0].removesuffix("+dirty") in {*UNKNOWN, ""}:
        raise RunFileError(
            f"{len(side)} runs on one side whose commits are not known, so that they may be of several versions: git "
            f"was missing when they were made. Name one file, or set {VARIABLE} to the commit and measure again"
        )
    names = side[0][0] if len(side) == 1 else f"{len(side)} runs"
    return f"{names} ({commits[0] or 'unknown commit'})"


def differences(first: Mapping[str, Scalar], second: Mapping[str, Scalar]) -> dict[str, tuple[object, object]]:
    """Return the lasting facts in which two environments differ, each with both values."""
    before, after = lasting_facts(first), lasting_facts(second)
    keys = sorted({*before, *after})
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def check_environments(runs: Sequence[Run], remedy: str) -> None:
    """Refuse runs of different environments.

    Args:
        runs: Runs of both sides.
        remedy: What can be done, for the error.

    Raises:
        RunFileError: If they differ; the message lists the facts.
    """
    environments = [lasting_facts(run.environment) for run in runs]
    keys = sorted({key for environment in environments for key in environment})
    facts = {key: list(dict.fromkeys(environment.get(key) for environment in environments)) for key in keys}
    unlike = [f"{key} {' and '.join(map(repr, values))}" for key, values in facts.items() if len(values) > 1]
    if unlike:
        raise RunFileError(
            f"the runs come from unlike environments, in which times cannot be compared: {'; '.join(unlike)}. {remedy}"
        )
