"""What several cases say together that differ in one number: knee, crossover batch, efficiency of threads.

A sweep is no kind of run: it is found among the cases of whatever run has several batches, threads, image sizes or
widths of otherwise equal cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnperf.records.case import AXIS_BY_NAME, Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.stats.ratio import ratio

LEAST: Mapping[str, int] = {"batch": 3, "threads": 2, "image_size": 2, "width": 2}
"""The axes that are swept over, and of how many values there is something to say."""

STEP = 0.05
"""Gain of throughput below which doubling the batch is no longer worth it, unless a run says another."""

EFFICIENCY = "thread_efficiency"

Points = Sequence[tuple[int, Value]]


@dataclass(frozen=True)
class Line:
    """Cases that differ in one axis alone.

    Attributes:
        axis: The one.
        case: What they share; the axis has its default.
        records: By value of the axis, in rising order.
    """

    axis: str
    case: Case
    records: Mapping[int, CaseRecord]

    def points(self, metric: str) -> list[tuple[int, Value]]:
        """Return the values of the axis, each with that of a metric, as far as it was measured."""
        found = ((value, record.values.get(metric)) for value, record in self.records.items())
        return [(value, measured) for value, measured in found if measured is not None and measured.value > 0]

    def at(self, value: int) -> Case:
        """Return the case at a value of the axis."""
        return self.records[value].case


@dataclass(frozen=True)
class Knee:
    """The batch after which doubling brings little.

    Attributes:
        batch: The batch.
        gain: Of throughput by doubling it, 0.02 for 2 %.
        sure: Whether the interval of the gain lies below the step; if not, it is below it by its median alone.
    """

    batch: int
    gain: Value
    sure: bool


@dataclass(frozen=True)
class Crossover:
    """The batch from which on one side is faster than the other.

    Attributes:
        answer: `from`, `always` (at every batch), `never` (not at the largest) or `unsure` (at the largest).
        batch: From which on, between the measured ones interpolated; None unless the answer is `from` or `always`.
        first: The smallest measured batch from which on it surely is faster; None where there is none.
        most: The largest batch of both sides.
        earlier: Smaller batches at which it surely was faster, before it surely was not again.
    """

    answer: str
    batch: Value | None = None
    first: int | None = None
    most: int = 0
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rivals:
    """Two lines over the batch that differ in engine or device alone, and from where on the first is faster."""

    challenger: Line
    base: Line
    crossover: Crossover

    @property
    def metric(self) -> str:
        """Return the metric that the crossover is: by engine or by device."""
        return "device_crossover" if self.challenger.case.device != self.base.case.device else "engine_crossover"


def lines_of(cases: Mapping[Case, CaseRecord], axis: str, least: int | None = None) -> list[Line]:
    """Return the lines over an axis that have at least so many values, by default those of `LEAST`.

    Cases that leave the axis to the environment or to the network's source, whose value is 0, are no part of a line.
    """
    found: dict[Case, dict[int, CaseRecord]] = {}
    default = AXIS_BY_NAME[axis].default
    for case, record in cases.items():
        if value := getattr(case, axis):
            found.setdefault(Case.from_axes({**case.axes(), axis: default}), {})[value] = record
    wanted = LEAST[axis] if least is None else least
    return [Line(axis, case, dict(sorted(by.items()))) for case, by in found.items() if len(by) >= wanted]


def gains(throughputs: Points) -> list[tuple[int, Value]]:
    """Return for each batch but the last what doubling it brings, 0.9 for 90 % more images/s.

    Where the next batch is not the double, the gain is that of one doubling of as many as lie between.
    """
    return [
        (small, _gain(before, after, math.log2(large / small)))
        for (small, before), (large, after) in pairwise(throughputs)
    ]


def knee_of(throughputs: Points, step: float = STEP) -> Knee | None:
    """Return the first batch after which doubling, and doubling again, bring less than `step`; one alone may be a dip.

    It is sure where the interval of the first gain lies below the step. Where no larger batch tells whether it was a
    dip, only a sure one is taken.
    """
    found = gains(throughputs)
    for index, (batch, gain) in enumerate(found):
        after = found[index + 1][1] if index + 1 < len(found) else None
        sure = gain.high is not None and gain.high < step
        if gain.value < step and (sure if after is None else after.value < step):
            return Knee(batch, gain, sure)
    return None


def crossover_of(base: Points, challenger: Points) -> Crossover:
    """Return from which batch on the challenger is faster, at every larger one that was measured.

    Between two batches the logarithm of the ratio of latencies is interpolated over the logarithm of the batch; the
    interval is that of the batches between which the sign of the ratio is not sure.

    Args:
        base: Batches of one side with their latencies, rising.
        challenger: Those of the other; batches that one side alone has are left out.
    """
    other = dict(challenger)
    ratios = [(batch, ratio(latency, other[batch])) for batch, latency in base if batch in other]
    if not ratios:
        return Crossover("unsure")
    signs = [_sign(quotient) for _, quotient in ratios]
    batches, most = [batch for batch, _ in ratios], ratios[-1][0]
    slower = max((index for index, sign in enumerate(signs) if sign < 0), default=-1)
    earlier = tuple(batch for batch, sign in zip(batches[: slower + 1], signs, strict=False) if sign > 0)
    if signs[-1] <= 0:
        return Crossover("never" if signs[-1] < 0 else "unsure", most=most, earlier=earlier)
    doubtful = max((index for index, sign in enumerate(signs) if sign <= 0), default=-1)
    first = batches[doubtful + 1]
    if doubtful < 0:
        return Crossover("always", Value(float(first)), first, most)
    value, low, high = (_last_rise(ratios, end) for end in ("value", "high", "low"))
    return Crossover("from", Value(value, low, high), first, most, earlier)


def rivals_of(cases: Mapping[Case, CaseRecord], least: int = LEAST["batch"]) -> list[Rivals]:
    """Return every pair of lines over the batch with `least` batches that differ in engine or device alone."""
    lines = {line.case: line for line in lines_of(cases, "batch", least)}
    return [
        Rivals(line, lines[other], crossover_of(lines[other].points("latency"), line.points("latency")))
        for case, line in lines.items()
        for other in _others(case)
        if other in lines
    ]


def efficiencies(line: Line) -> list[tuple[int, Value]]:
    """Return for each number of threads the throughput over that number times the throughput of one.

    It is that of rounds side by side where the run has it, and else of two medians, measured one after the other.
    """
    throughputs, paired = line.points("throughput"), dict(line.points(EFFICIENCY))
    one = dict(throughputs).get(1)
    if one is None:
        return []
    others = [(threads, many) for threads, many in throughputs if threads != 1]
    found = [(threads, paired.get(threads) or ratio(many, one).scaled(1 / threads)) for threads, many in others]
    return [(1, Value(1.0)), *found]


def sweep_values(cases: Mapping[Case, CaseRecord], step: float = STEP) -> dict[Case, dict[str, Value]]:
    """Return what the sweeps of a run add to its cases, by case and metric.

    `knee_batch` belongs to the case at the knee, where that is sure; a crossover to the challenger's case at the
    smallest batch from which on it surely is faster; `thread_efficiency` to every case of a line over the threads.
    """
    added: dict[Case, dict[str, Value]] = {}
    for case, metric, value in (*_knees(cases, step), *_crossovers(cases), *_efficiencies(cases)):
        added.setdefault(case, {})[metric] = value
    return added


def _knees(cases: Mapping[Case, CaseRecord], step: float) -> Iterator[tuple[Case, str, Value]]:
    for line in lines_of(cases, "batch"):
        knee = knee_of(line.points("throughput"), step)
        if knee is not None and knee.sure:
            yield line.at(knee.batch), "knee_batch", Value(float(knee.batch))


def _crossovers(cases: Mapping[Case, CaseRecord]) -> Iterator[tuple[Case, str, Value]]:
    for rivals in rivals_of(cases):
        found = rivals.crossover
        if found.first is not None and found.batch is not None:
            yield rivals.challenger.at(found.first), rivals.metric, found.batch


def _efficiencies(cases: Mapping[Case, CaseRecord]) -> Iterator[tuple[Case, str, Value]]:
    for line in lines_of(cases, "threads"):
        for threads, value in efficiencies(line):
            yield line.at(threads), EFFICIENCY, value


def _others(case: Case) -> list[Case]:
    """Return what a case is a challenger of: eager execution of it, and the CPU."""
    eager = [] if case.engine == "eager" else [case.replace(engine="eager")]
    return eager + ([case.replace(device="cpu")] if case.device_type == "cuda" else [])


def _gain(before: Value, after: Value, doublings: float) -> Value:
    return _each(ratio(after, before), lambda quotient: quotient ** (1 / doublings) - 1)


def _each(value: Value, change: Callable[[float], float]) -> Value:
    low, high = (None if end is None else change(end) for end in (value.low, value.high))
    return Value(change(value.value), low, high)


def _sign(quotient: Value) -> int:
    """Return 1 where a ratio surely is above 1, -1 where it surely is below, else 0."""
    if quotient.low is None or quotient.high is None:
        return 0
    return (quotient.low > 1) - (quotient.high < 1)


def _last_rise(ratios: Points, end: str) -> float:
    """Return the batch at which `value`, `low` or `high` of the ratios rises above 1 for good; the smallest if none."""
    known = [(batch, getattr(quotient, end)) for batch, quotient in ratios]
    logs = [(math.log(batch), math.log(one)) for batch, one in known if one is not None]
    rises = [(left, right) for left, right in pairwise(logs) if left[1] <= 0 < right[1]]
    if not rises:
        return float(ratios[0][0])
    (x, y), (next_x, next_y) = rises[-1]
    return math.exp(x - y * (next_x - x) / (next_y - y))
