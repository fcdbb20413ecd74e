"""Results of cases that differ in one number: the knee, the crossover batch and the efficiency of threads.

A sweep is not a kind of run. It is found among the cases of any run that has several batches, threads, image sizes or
widths of otherwise equal cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnperf.records.case import AXIS_BY_NAME, Case
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.pairs import DEVICE, ENGINE, counterpart
from cnnperf.runs.ratios import Cases, latency_ratio
from cnnperf.stats.ratio import ratio

LEAST: Mapping[str, int] = {"batch": 3, "threads": 2, "image_size": 2, "width": 2}
"""By axis that is swept, the smallest number of values of a line."""

STEP = 0.05
"""Default gain of throughput below which doubling the batch is not worth it."""

EFFICIENCY = "thread_efficiency"

Points = Sequence[tuple[int, Value]]
"""Values of an axis, rising, each with a measured value."""


@dataclass(frozen=True)
class Line:
    """Cases that differ in one axis alone.

    Attributes:
        axis: Name of the axis.
        case: Axes that the cases share; the swept axis has its default.
        records: Records by value of the axis, rising.
    """

    axis: str
    case: Case
    records: Mapping[int, CaseRecord]

    def points(self, metric: str) -> list[tuple[int, Value]]:
        """Return the values of the axis where a metric is above 0, each with its value."""
        values = ((at, record.values.get(metric)) for at, record in self.records.items())
        return [(at, measured) for at, measured in values if measured is not None and measured.value > 0]

    def at(self, value: int) -> Case:
        """Return the case at a value of the axis."""
        return self.records[value].case


@dataclass(frozen=True)
class Knee:
    """Batch whose doubling increases throughput by less than the step.

    Attributes:
        batch: The batch.
        gain: Gain of throughput by doubling it; 0.02 is 2 %.
        sure: Whether the interval of the gain lies below the step; otherwise only its median does.
    """

    batch: int
    gain: Value
    sure: bool


@dataclass(frozen=True)
class Crossover:
    """Batch from which one side is faster than the other.

    Attributes:
        answer: `from`, `always` (at every batch), `never` (not at the largest) or `unsure` (at the largest).
        batch: The batch, interpolated between measured ones; None unless the answer is `from` or `always`.
        first: Smallest measured batch from which the side is surely faster; None where there is none.
        most: Largest batch of both sides.
        earlier: Smaller batches at which the side was surely faster, before it was surely slower again.
    """

    answer: str
    batch: Value | None = None
    first: int | None = None
    most: int = 0
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rivals:
    """Two lines over the batch that differ in engine or device alone, and the batch from which the first is faster."""

    challenger: Line
    base: Line
    crossover: Crossover

    @property
    def metric(self) -> str:
        """Metric of the crossover: `device_crossover` or `engine_crossover`."""
        return "device_crossover" if self.challenger.case.device != self.base.case.device else "engine_crossover"


def lines_of(cases: Cases, axis: str, least: int | None = None) -> list[Line]:
    """Return the lines over an axis with at least `least` values, by default that of `LEAST`.

    Cases whose value of the axis is 0 belong to no line: the environment or the network's source decides their value.
    """
    lines: dict[Case, dict[int, CaseRecord]] = {}
    default = AXIS_BY_NAME[axis].default
    for case, record in cases.items():
        if value := getattr(case, axis):
            lines.setdefault(case.replace(**{axis: default}), {})[value] = record
    shortest = LEAST[axis] if least is None else least
    return [Line(axis, case, dict(sorted(by.items()))) for case, by in lines.items() if len(by) >= shortest]


def gains(throughputs: Points) -> list[tuple[int, Value]]:
    """Return the gain of throughput by doubling each batch but the last; 0.9 is 90 % more images/s.

    Where the next batch is not the double, the gain is that of one of the doublings between them.
    """
    return [
        (small, _gain(before, after, math.log2(large / small)))
        for (small, before), (large, after) in pairwise(throughputs)
    ]


def knee_of(throughputs: Points, step: float = STEP) -> Knee | None:
    """Return the first batch whose doubling, and doubling again, gain less than `step` each; one alone may be a dip.

    It is sure where the interval of the first gain lies below the step. Only a sure one counts at the last batch but
    one, where no larger batch shows whether it was a dip.
    """
    steps = gains(throughputs)
    for index, (batch, gain) in enumerate(steps):
        after = steps[index + 1][1] if index + 1 < len(steps) else None
        sure = gain.high is not None and gain.high < step
        if gain.value < step and (sure if after is None else after.value < step):
            return Knee(batch, gain, sure)
    return None


def crossover_of(ratios: Points) -> Crossover:
    """Return the batch from which the challenger is faster at every larger batch that was measured.

    Between two batches the logarithm of the ratio of latencies is interpolated over the logarithm of the batch. The
    interval is that of the batches between which the sign of the logarithm is not sure.

    Args:
        ratios: Batches, rising, each with the latency of the other side over that of the challenger.
    """
    if not ratios:
        return Crossover("unsure")
    signs = [_sign(quotient) for _, quotient in ratios]
    batches = [batch for batch, _ in ratios]
    most = batches[-1]
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


def rivals_of(cases: Cases, least: int = LEAST["batch"]) -> list[Rivals]:
    """Return every pair of lines over the batch with `least` batches that differ in engine or device alone."""
    lines = {line.case: line for line in lines_of(cases, "batch", least)}
    rivals = []
    for case, line in lines.items():
        bases = [lines[other] for other in (counterpart(case, ENGINE), counterpart(case, DEVICE)) if other in lines]
        rivals += [Rivals(line, base, crossover_of(_ratios(base, line))) for base in bases]
    return rivals


def _ratios(base: Line, challenger: Line) -> list[tuple[int, Value]]:
    """Return the ratios of latencies at the batches that both lines have."""
    shared = [batch for batch in base.records if batch in challenger.records]
    values = ((batch, latency_ratio(base.records[batch], challenger.records[batch]).value) for batch in shared)
    return [(batch, value) for batch, value in values if value.value > 0]


def efficiencies(line: Line) -> list[tuple[int, Value]]:
    """Return for each number of threads the throughput over that number times the throughput of one thread.

    Where the run measured it from rounds side by side, that value is returned; otherwise the ratio is that of two
    medians, measured one after the other.
    """
    throughputs, paired = line.points("throughput"), dict(line.points(EFFICIENCY))
    single = dict(throughputs).get(1)
    if single is None:
        return []
    shares = [(1, Value(1.0))]
    for threads, several in throughputs:
        if threads != 1:
            shares.append((threads, paired.get(threads) or ratio(several, single).scaled(1 / threads)))
    return shares


def with_sweeps(run: Run) -> Run:
    """Return a run whose cases have the results of its sweeps among their values.

    A shard has only some points of each sweep, so that its cases get none before the shards are merged.
    """
    if run.shard:
        return run
    added = sweep_values({record.case: record for record in run.cases}, run.step or STEP)
    cases = [record.with_values(with_units(added.get(record.case, {}))) for record in run.cases]
    return run.replace(cases=tuple(cases))


def sweep_values(cases: Cases, step: float = STEP) -> dict[Case, dict[str, Value]]:
    """Return the results of the sweeps of a run by case and metric.

    `knee_batch` belongs to the case at the knee, where that is sure. A crossover belongs to the challenger's case at
    the smallest batch from which it surely is faster. `thread_efficiency` belongs to every case of a line over threads.
    """
    added: dict[Case, dict[str, Value]] = {}
    for line in lines_of(cases, "batch"):
        knee = knee_of(line.points("throughput"), step)
        if knee is not None and knee.sure:
            added.setdefault(line.at(knee.batch), {})["knee_batch"] = Value(float(knee.batch))
    for rivals in rivals_of(cases):
        crossover = rivals.crossover
        if crossover.first is not None and crossover.batch is not None:
            added.setdefault(rivals.challenger.at(crossover.first), {})[rivals.metric] = crossover.batch
    for line in lines_of(cases, "threads"):
        for threads, share in efficiencies(line):
            added.setdefault(line.at(threads), {})[EFFICIENCY] = share
    return added


def _gain(before: Value, after: Value, doublings: float) -> Value:
    def per_doubling(quotient: float) -> float:
        return float(quotient ** (1 / doublings) - 1)

    quotient = ratio(after, before)
    low, high = (None if end is None else per_doubling(end) for end in (quotient.low, quotient.high))
    return Value(per_doubling(quotient.value), low, high)


def _sign(quotient: Value) -> int:
    """Return 1 where a ratio surely is above 1, -1 where it surely is below, else 0."""
    if quotient.low is None or quotient.high is None:
        return 0
    return (quotient.low > 1) - (quotient.high < 1)


def _last_rise(ratios: Points, end: str) -> float:
    """Return the batch at which `value`, `low` or `high` of the ratios last rises above 1, or the smallest batch."""
    ends = [(batch, getattr(quotient, end)) for batch, quotient in ratios]
    logs = [(math.log(batch), math.log(height)) for batch, height in ends if height is not None]
    rises = [(left, right) for left, right in pairwise(logs) if left[1] <= 0 < right[1]]
    if not rises:
        return float(ratios[0][0])
    (x, y), (next_x, next_y) = rises[-1]
    return math.exp(x - y * (next_x - x) / (next_y - y))
