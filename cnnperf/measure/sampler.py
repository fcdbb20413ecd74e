"""Sampler of one case: warm-up until steady, then groups of rounds until the interval is narrow or the budget is spent.

It needs only a subject that can be called and relocated, and a clock. Tests run it on a scripted clock.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from cnnperf.errors import WrongResult
from cnnperf.measure.clock import Clock, Reading
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval
from cnnperf.stats.simultaneous import SMALLEST_DIFFERENCE, is_decided

INTERRUPTED = "interrupted"
LEAST_KEPT = 2  # groups that an interrupted measurement needs to be kept: one has no interval
STEADY_WINDOW = 3
STEADY_TOLERANCE = 0.05
SLOW_ROUND = 0.02  # seconds; beyond it a cold round disappears in the noise, and warm-up rounds are expensive


class Subject(Protocol):
    """Subject of timed calls."""

    def setup(self) -> None:
        """Do the work before the timed call; its time is recorded separately."""

    def run(self) -> None:
        """Do the timed work. It returns None, so that no round keeps tensors of another round alive."""

    def relocate(self) -> None:
        """Move all data of the call to fresh addresses and restore its initial values."""


class Meter(Protocol):
    """Energy meter."""

    def joules(self) -> float:
        """Return the energy so far in J."""


@dataclass(frozen=True)
class Schedule:
    """Budget and precision of the sampling of a case.

    Attributes:
        budget: Seconds of rounds for one case.
        interval: Requested half-width of the confidence interval of a median or a ratio, relative to it.
        smallest_difference: Smallest difference between two cases that matters, relative.
        ratios: Number of ratios of the whole run, which share the error of its verdicts.
        warmup: Most seconds of warm-up.
        least_groups: Number of groups taken even if the budget is spent earlier.
        settled_groups: Number of groups before a narrow interval may end the sampling. Nine is the least count whose
            95 % interval excludes the extremes, so that no single memory placement decides.
        most_rounds: Most rounds per group.
    """

    budget: float = 1.0
    interval: float = 0.02
    smallest_difference: float = SMALLEST_DIFFERENCE
    ratios: int = 1
    warmup: float = 0.4
    least_groups: int = 3
    settled_groups: int = 9
    most_rounds: int = 200

    def rounds_in_group(self, estimate: float) -> int:
        """Return the number of rounds of `estimate` seconds per group, for about ten groups in the budget."""
        return max(1, min(self.most_rounds, int(self.budget / 10 / estimate)))

    def suffices(self, ratio: Value) -> bool:
        """Return whether a ratio is narrow, or decided and at most twice as wide as wanted."""
        decided = is_decided(ratio, self.smallest_difference, self.ratios)
        return ratio.half_width <= self.interval * (2 if decided else 1)


@dataclass
class Samples:
    """Samples of one case.

    Attributes:
        groups: Readings of each group, in order.
        stopped: Reason for the end of the sampling: `interval`, `budget` or `interrupted`.
        steady: Whether the warm-up became steady in its time.
        warmup_rounds: Number of rounds before the first group.
        energy: Joules per round of each group but one that the warm-up gave; empty without a meter.
        calls: Calls of one round, over which its times are divided.
        dropped: Seconds of the groups that were moved to the warm-up.
    """

    groups: list[list[Reading]] = field(default_factory=list)
    stopped: str = "budget"
    steady: bool = False
    warmup_rounds: int = 0
    energy: list[float] = field(default_factory=list)
    calls: int = 1
    dropped: float = 0.0

    def wall(self) -> list[list[float]]:
        """Return the wall seconds by group."""
        return [[reading.wall for reading in group] for group in self.groups]

    def flat(self) -> list[Reading]:
        """Return all readings in order."""
        return [reading for group in self.groups for reading in group]

    def keep(self, count: int) -> None:
        """Drop all groups but the first `count`."""
        del self.groups[count:], self.energy[count:]

    def count_as_warm_up(self, count: int) -> None:
        """Move the first `count` groups to the warm-up."""
        self.warmup_rounds += sum(map(len, self.groups[:count]))
        self.dropped += sum(reading.wall for group in self.groups[:count] for reading in group)
        del self.groups[:count], self.energy[:count]

    def per_call(self, calls: int) -> Samples:
        """Return the samples of single calls, of which each round had several."""
        groups = [[reading.divided(calls) for reading in group] for group in self.groups]
        return replace(self, groups=groups, calls=calls, energy=[joules / calls for joules in self.energy])

    def spent(self) -> float:
        """Return the wall seconds of all rounds after the warm-up, with those of groups that were dropped."""
        return self.calls * sum(reading.wall for reading in self.flat()) + self.dropped

    def latency(self) -> Value:
        """Return the median wall seconds with its interval."""
        return median_interval(self.wall())

    def setup_latency(self) -> Value:
        """Return the median wall seconds of set-ups with its interval."""
        return median_interval([[reading.setup for reading in group] for group in self.groups])

    def event_latency(self) -> Value | None:
        """Return the median event seconds with its interval, or None without event times."""
        groups = [[reading.event for reading in group if reading.event is not None] for group in self.groups]
        return median_interval(groups) if all(groups) else None

    def cpu_busy(self) -> float:
        """Return CPU seconds over wall seconds, about the number of computing threads."""
        readings = self.flat()
        return sum(reading.cpu for reading in readings) / sum(reading.wall for reading in readings)


def sample(subject: Subject, clock: Clock, schedule: Schedule, meter: Meter | None = None) -> Samples:
    """Sample one case.

    The memory placement of a new case is fresh, so the rounds that showed the end of warm-up are the first group.

    Args:
        subject: The case.
        clock: Clock of its device.
        schedule: Budget and precision.
        meter: Energy meter, which is read before and after each group but the first.

    Raises:
        WrongResult: If a reading of the clock is not positive or not finite.
    """
    samples = Samples()
    with collector_paused():
        history = warm_up(subject, clock, schedule, samples)
        estimate = statistics.median(reading.wall for reading in history[-STEADY_WINDOW:])
        if samples.steady:
            window = min(_window(history[-1].wall), schedule.rounds_in_group(estimate))
            samples.groups.append(history[-window:])
            samples.warmup_rounds -= window
        try:
            _take_groups(subject, clock, schedule, samples, estimate, meter)
        except KeyboardInterrupt:
            if len(samples.groups) < LEAST_KEPT:
                raise
            samples.stopped = INTERRUPTED
    return samples


def steady(history: list[float], window: int = STEADY_WINDOW) -> bool:
    """Return whether the median of the last `window` rounds is at most 5 % below that of the `window` rounds before."""
    if len(history) < 2 * window:
        return False
    recent = statistics.median(history[-window:])
    before = statistics.median(history[-2 * window : -window])
    return recent >= before * (1 - STEADY_TOLERANCE)


def warm_up(subject: Subject, clock: Clock, schedule: Schedule, samples: Samples) -> list[Reading]:
    """Take rounds until they are steady or the time for it is over, note both in `samples`, and return the rounds."""
    history: list[Reading] = []
    start = clock.now()
    while True:
        history.append(take_round(subject, clock))
        walls = [reading.wall for reading in history]
        samples.steady = steady(walls, _window(walls[-1]))
        if samples.steady or (len(history) > 1 and clock.now() - start >= schedule.warmup):
            samples.warmup_rounds = len(history)
            return history


def _window(seconds: float) -> int:
    """Return the number of rounds of this length that are compared with as many before them."""
    return 1 if seconds >= SLOW_ROUND else STEADY_WINDOW


def _take_groups(
    subject: Subject, clock: Clock, schedule: Schedule, samples: Samples, estimate: float, meter: Meter | None
) -> None:
    rounds = schedule.rounds_in_group(estimate)
    spent = sum(map(sum, samples.wall()))
    while True:
        take_group(subject, clock, samples, rounds, meter, cold_round=estimate < SLOW_ROUND)
        spent += sum(reading.wall for reading in samples.groups[-1])
        count = len(samples.groups)
        if count >= schedule.settled_groups and samples.latency().half_width <= schedule.interval:
            samples.stopped = "interval"
            return
        if count >= schedule.least_groups and spent >= schedule.budget:
            return


def take_group(
    subject: Subject, clock: Clock, samples: Samples, rounds: int, meter: Meter | None, *, cold_round: bool
) -> None:
    """Move a subject to fresh addresses and append a group of rounds to its samples, after an untimed cold round."""
    subject.relocate()
    if cold_round:
        take_round(subject, clock)
    before = 0.0 if meter is None else meter.joules()
    samples.groups.append([take_round(subject, clock) for _ in range(rounds)])
    if meter is not None:
        samples.energy.append((meter.joules() - before) / rounds)


def take_round(subject: Subject, clock: Clock) -> Reading:
    """Set up and time one call.

    Raises:
        WrongResult: If the reading of the clock is not positive or not finite.
    """
    start = clock.now()
    subject.setup()
    setup = clock.now() - start
    reading = replace(clock.read(subject.run), setup=setup)
    if not (math.isfinite(reading.wall) and reading.wall > 0):
        raise WrongResult(
            f"the clock jumped: a round took {reading.wall} s; the times of this case are invalid, measure it again"
        )
    return reading


@contextmanager
def collector_paused() -> Iterator[None]:
    """Disable the garbage collector inside the block."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
