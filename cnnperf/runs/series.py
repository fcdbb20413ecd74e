"""The history of saved runs: one series per case, metric and machine, its level shifts, and changes of counters.

Seconds of two machines are not comparable, so that another machine begins another series. Ratios of what was measured
side by side compare better: their series continue across machines. There is one series for each pinned commit of an
`anchor_ratio`, and one for each case of the ratios between cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import chain
from operator import itemgetter
from statistics import median

import msgspec

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.machine import Scalar
from cnnperf.records.metrics import METRICS, RATIOS, metrics_named
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.series_facts import Environment, Facts, changeable, machine_of, shared_facts
from cnnperf.stats.ratio import exp
from cnnperf.stats.shifts import LEVEL, Shift, find_shifts

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LISTED = 8  # cases in an error


class Point(msgspec.Struct, frozen=True, gc=False):
    """One run in a series: its name, commit, value, software and time; not searched by the garbage collector.

    For a ratio between cases, `software` includes the models of the processors.
    """

    run: str
    commit: str
    value: float
    software: Environment
    time: datetime | None = None


Observation = tuple[str, Case, Facts, Point]
"""A point with the metric, the case and the machine of its series."""


@dataclass(frozen=True)
class Series:
    """A metric of one case over the runs of one machine.

    Attributes:
        case: The case.
        metric: Name of the metric.
        machine: Names and values of the facts that all runs share; for ratios what they are to.
        points: Points in the order of time.
        unusable: Number of runs whose value is not finite, or a time not above 0.
    """

    case: Case
    metric: str
    machine: Facts
    points: tuple[Point, ...]
    unusable: int = 0


@dataclass(frozen=True)
class Change:
    """Level shift of a series.

    Attributes:
        series: The series.
        last: Last run that is surely at the old level.
        first: First run that is surely at the new level.
        ratio: New over old level.
        low: Lower end of the 95 % interval of the ratio; the ratio itself for a counter.
        high: Upper end.
        worse: Whether the change is for the worse.
        software: Software that changed with it, and for ratios processors, each with both values.
        commits: Commits in which the new level may have begun, oldest first.
        mended: Whether the series has returned to the old level or a better one since; only of use for a change for the
            worse.
        reason: Reason for which it is acknowledged; empty where it is not.
    """

    series: Series
    last: Point
    first: Point
    ratio: float
    low: float
    high: float
    worse: bool
    software: Mapping[str, tuple[Scalar, Scalar]]
    commits: tuple[str, ...]
    mended: bool = False
    reason: str = ""

    @property
    def fails(self) -> bool:
        """Whether it is for the worse, lasts, and is not acknowledged."""
        return self.worse and not self.mended and not self.reason


def series_of(runs: Iterable[tuple[str, Run]], metric: str, pattern: str = "*") -> list[Series]:
    """Return the series of a metric, or of the metrics of a common name.

    Args:
        runs: Names and runs.
        metric: Name of a metric, or of several such as `ratio`.
        pattern: Glob over architectures or labels of cases.

    Raises:
        RunFileError: If no run has the metric for a matching case; the message lists what there is.
    """
    cases: dict[Case, Case | None] = {}  # by case, the same object for all runs; None if the glob does not match
    names, metrics = metrics_named(metric), set[str]()
    by_run: list[tuple[datetime, list[Observation]]] = []
    for name, run in runs:
        commit, software = run.commit, changeable(run.environment, names)
        machine = machine_of(run.environment, run.machine, run.anchor, metric)
        observations: list[Observation] = []
        for record in run.by_case().values():
            if record.case not in cases:
                cases[record.case] = record.case if fits(record.case, pattern) else None
            case = cases[record.case]
            if case is None:
                continue
            present = [each for each in names if each in record.values]
            for each in present:
                point = Point(name, commit, _value(record, each), software, run.time)
                observations.append((each, case, shared_facts(case, each, machine), point))
            if not present:
                metrics.update(record.values)
        by_run.append((run.time or _EARLIEST, observations))
    by_run.sort(key=itemgetter(0))
    series = gather(chain.from_iterable(observations for _, observations in by_run))
    if not series:
        raise _no_series(metric, pattern, cases, metrics)
    return series


def gather(observations: Iterable[Observation]) -> list[Series]:
    """Return the series of points that are given in the order of time."""
    numbers: dict[Facts, int] = {}
    points: dict[tuple[str, Case, int], list[Point]] = {}
    previous: Facts = ()
    number = 0
    for metric, case, machine, point in observations:
        if machine is not previous or not numbers:  # hashing the many facts of a machine takes long
            previous, number = machine, numbers.setdefault(machine, len(numbers))
        points.setdefault((metric, case, number), []).append(point)
    machines = list(numbers)
    return [_series(case, metric, machines[number], own) for (metric, case, number), own in points.items()]


def changes_of(series: Sequence[Series], least: float) -> list[Change]:
    """Return the level shifts of times, and every change of counters.

    Args:
        series: All series, among which the error of the search is divided.
        least: Smallest shift of a time that matters, as a fraction.
    """
    return [change for line in series for change in _changes(line, least, LEVEL / len(series))]


def fits(case: Case, pattern: str) -> bool:
    """Return whether a glob matches the architecture or the label of a case."""
    return fnmatchcase(case.architecture, pattern) or fnmatchcase(case.label(), pattern)


def across_processes(record: CaseRecord, metric: str) -> float | None:
    """Return the median over the processes that timed a case; None for other metrics, and for one process."""
    return median(record.processes) if metric == "latency" and record.processes else None


def _no_series(metric: str, pattern: str, cases: Iterable[Case], metrics: Iterable[str]) -> RunFileError:
    """Return the error about a metric that no run has for a matching case; `metrics` are those of matching cases."""
    if metrics:
        of_ratios = not set(RATIOS).isdisjoint(metrics_named(metric))
        hint = "; only cases that were measured side by side have ratios" if of_ratios else ""
        have = ", ".join(sorted(metrics))
        return RunFileError(f"no run has the metric {metric!r} for {pattern}; they have {have}{hint}")
    labels = sorted(case.label() for case in cases)
    if not labels:
        return RunFileError("the runs have no cases, and therefore no history")
    more = "; ..." if len(labels) > _LISTED else ""
    return RunFileError(f"no run has a case {pattern!r}; they have {'; '.join(labels[:_LISTED])}{more}")


def _value(record: CaseRecord, metric: str) -> float:
    across = across_processes(record, metric)
    return record.values[metric].value if across is None else across


def _series(case: Case, metric: str, machine: Facts, points: Sequence[Point]) -> Series:
    least = -math.inf if METRICS[metric].counter else 0.0
    usable = tuple(point for point in points if math.isfinite(point.value) and point.value > least)
    return Series(case, metric, machine, usable, len(points) - len(usable))


def _changes(series: Series, least: float, level: float) -> list[Change]:
    values = [point.value for point in series.points]
    if METRICS[series.metric].counter:
        places = [index for index in range(1, len(values)) if values[index] != values[index - 1]]
        return [_counted(series, index) for index in places]
    shifts = find_shifts([math.log(value) for value in values], math.log1p(least), level)
    sign = 1 if METRICS[series.metric].better == "lower" else -1
    since = [sign * sum(shift.size for shift in shifts[index:]) for index in range(len(shifts))]
    pairs = zip(shifts, since, strict=True)
    return [replace(_shifted(series, shift), mended=worse_by < math.log1p(least)) for shift, worse_by in pairs]


def _counted(series: Series, index: int) -> Change:
    before, after, last = (series.points[place].value for place in (index - 1, index, -1))
    ratio = after / before if before else math.inf
    change = _change(series, index - 1, index, (ratio, ratio, ratio), rises=after > before)
    back = last <= before if METRICS[series.metric].better == "lower" else last >= before
    return replace(change, mended=back)


def _shifted(series: Series, shift: Shift) -> Change:
    ratios = exp(shift.size), exp(shift.low), exp(shift.high)
    return _change(series, shift.earliest - 1, shift.latest, ratios, rises=shift.size > 0)


def _change(series: Series, last: int, first: int, ratios: tuple[float, float, float], *, rises: bool) -> Change:
    before, after = series.points[last], series.points[first]
    better = METRICS[series.metric].better
    worse = better != "neither" and rises == (better == "lower")
    keys = sorted({*before.software, *after.software})
    pairs = {key: (before.software.get(key), after.software.get(key)) for key in keys}
    software = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    commits = tuple(point.commit.removesuffix("+dirty") for point in series.points[last + 1 : first + 1])
    return Change(series, before, after, *ratios, worse, software, commits)
