"""The sampler: warm-up until steady, then rounds in groups until the interval is narrow or the budget ends.

It knows a subject that can be called and moved, and a clock; nothing of networks. Tests run it on a scripted clock.
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

STEADY_WINDOW = 3
STEADY_TOLERANCE = 0.05
SLOW_ROUND = 0.02  # seconds; above it one cold round is lost in the noise, and warm-up rounds are dear


class Subject(Protocol):
    """Something whose calls are timed."""

    def setup(self) -> None:
        """Do the work before the timed call, of which the time is kept apart."""

    def run(self) -> None:
        """Do the timed work. It returns None, so that no round keeps another round's tensors alive."""

    def relocate(self) -> None:
        """Put everything that the call touches at fresh addresses and restore its initial values."""


class Meter(Protocol):
    """Counter of energy."""

    def joules(self) -> float:
        """Return the energy so far in J."""


@dataclass(frozen=True)
class Schedule:
    """Budget and precision of the sampling of a case.

    Attributes:
        budget: Seconds of rounds for one case.
        interval: Wanted half-width of the median's interval, relative to the median.
        warmup: Most seconds of warm-up.
        least_groups: Groups taken even if the budget ends earlier.
        settled_groups: Groups before the interval may end the sampling. Nine is the first count whose 95 % interval
            leaves out the highest and the lowest, so that no single placement decides.
        most_rounds: Rounds in one group at most.
    """

    budget: float = 1.0
    interval: float = 0.02
    warmup: float = 0.4
    least_groups: int = 3
    settled_groups: int = 9
    most_rounds: int = 200

    def rounds_in_group(self, estimate: float) -> int:
        """Return how many rounds of `estimate` seconds make a group, for about ten groups in the budget."""
        return max(1, min(self.most_rounds, int(self.budget / 10 / estimate)))


@dataclass
class Samples:
    """Samples of one case.

    Attributes:
        groups: Readings of each group, in order.
        stopped: `interval` or `budget`: what ended the sampling.
        steady: Whether the warm-up became steady before its time was over.
        warmup_rounds: Rounds before the first group.
        energy: Joules of one round in each group, where a meter was given.
    """

    groups: list[list[Reading]] = field(default_factory=list)
    stopped: str = "budget"
    steady: bool = False
    warmup_rounds: int = 0
    energy: list[float] = field(default_factory=list)

    def wall(self) -> list[list[float]]:
        """Return wall seconds by group."""
        return [[reading.wall for reading in group] for group in self.groups]

    def flat(self) -> list[Reading]:
        """Return all readings in order."""
        return [reading for group in self.groups for reading in group]

    def latency(self) -> Value:
        """Return the median wall seconds with its interval."""
        return median_interval(self.wall())

    def setup_latency(self) -> Value:
        """Return the median wall seconds of the set-up with its interval."""
        return median_interval([[reading.setup for reading in group] for group in self.groups])

    def event_latency(self) -> Value | None:
        """Return the median event seconds with its interval, or None without events."""
        groups = [[reading.event for reading in group if reading.event is not None] for group in self.groups]
        return median_interval(groups) if all(groups) else None

    def cpu_busy(self) -> float:
        """Return CPU seconds over wall seconds: about the number of threads that were computing."""
        readings = self.flat()
        return sum(reading.cpu for reading in readings) / sum(reading.wall for reading in readings)


def sample(subject: Subject, clock: Clock, schedule: Schedule, meter: Meter | None = None) -> Samples:
    """Take the samples of one case.

    A case comes freshly placed, so the rounds that showed its warm-up to be over are its first group.

    Args:
        subject: What is timed.
        clock: Of its device.
        schedule: How long and how precisely.
        meter: Counts energy, which is read before and after each group but the first.

    Raises:
        WrongResult: If the clock went backwards, stood still or returned a number that is not finite.
    """
    samples = Samples()
    with collector_paused():
        history = warm_up(subject, clock, schedule, samples)
        estimate = statistics.median(reading.wall for reading in history[-STEADY_WINDOW:])
        if samples.steady:
            window = min(_window(history[-1].wall), schedule.rounds_in_group(estimate))
            samples.groups.append(history[-window:])
            samples.warmup_rounds -= window
        _take_groups(subject, clock, schedule, samples, estimate, meter)
    return samples


def steady(history: list[float], window: int = STEADY_WINDOW) -> bool:
    """Tell whether the last `window` rounds are no longer clearly faster than the `window` rounds before them."""
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
    """Return how many rounds of this length are compared with as many before them."""
    return 1 if seconds >= SLOW_ROUND else STEADY_WINDOW


def _take_groups(
    subject: Subject, clock: Clock, schedule: Schedule, samples: Samples, estimate: float, meter: Meter | None
) -> None:
    rounds = schedule.rounds_in_group(estimate)
    spent = sum(map(sum, samples.wall()))
    while True:
        subject.relocate()
        if estimate < SLOW_ROUND:
            take_round(subject, clock)
        before = 0.0 if meter is None else meter.joules()
        group = [take_round(subject, clock) for _ in range(rounds)]
        if meter is not None:
            samples.energy.append((meter.joules() - before) / rounds)
        samples.groups.append(group)
        spent += sum(reading.wall for reading in group)
        count = len(samples.groups)
        if count >= schedule.settled_groups and samples.latency().half_width <= schedule.interval:
            samples.stopped = "interval"
            return
        if count >= schedule.least_groups and spent >= schedule.budget:
            return


def take_round(subject: Subject, clock: Clock) -> Reading:
    """Set up and time one call.

    Raises:
        WrongResult: If the clock jumped.
    """
    start = clock.now()
    subject.setup()
    setup = clock.now() - start
    reading = replace(clock.read(subject.run), setup=setup)
    if not (math.isfinite(reading.wall) and reading.wall > 0):
        raise WrongResult(
            f"the clock jumped: a round took {reading.wall} s; the times of this case mean nothing, measure it again"
        )
    return reading


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector out of timed calls."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
