"""Several subjects side by side, cycle by cycle: what differs between two runs or two minutes cancels in their ratios.

In each cycle every subject gets fresh memory addresses and one turn, in an order that is drawn anew. A turn lasts some
10 ms, or one round where that is longer. The n-th turns of two subjects are a pair.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from cnnperf.measure.clock import Clock
from cnnperf.measure.sampler import (
    INTERRUPTED,
    LEAST_KEPT,
    SLOW_ROUND,
    Meter,
    Samples,
    Schedule,
    Subject,
    collector_paused,
    take_group,
    warm_up,
)
from cnnperf.stats.median import median_interval
from cnnperf.stats.paired import PairedSamples, paired_ratio
from cnnperf.stats.transient import transient

WARM_UP_ROUNDS = 3  # whose median is the estimate; compiled subjects of `scaling` compile in the first
TURN = 0.01
"""Seconds of a turn. What disturbs a shared machine lasts some 50 ms: turns of 10 ms share it, and their ratios have
half the interval that turns of 40 ms have in the same time."""

MOST_ROUNDS = 199  # in a turn
LEAST_SPENT = 0.5
"""Share of the budget before which narrow ratios end nothing: a subject may be slower in its first second."""
LOOK = 1.15  # growth of the number of cycles between two looks at the ratios

Key = TypeVar("Key", bound=Hashable)
Groups = Mapping[Key, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Progress:
    """State of the sampling of a block.

    Attributes:
        cycles: Number of whole cycles.
        widest: Half-width of the widest ratio at the last look; infinity before the first look.
        spent: Seconds of all rounds so far.
        budget: Seconds that the rounds may take.
    """

    cycles: int
    widest: float
    spent: float
    budget: float


@dataclass(frozen=True)
class Instruments(Generic[Key]):
    """Observers of the sampling of a block.

    Attributes:
        meter: Counter of energy, read before and after each turn; or None.
        after_turn: Called with the key of a subject after its warm-up and after each of its turns.
        watch: Called after each cycle.
    """

    meter: Meter | None = None
    after_turn: Callable[[Key], object] = lambda _: None
    watch: Callable[[Progress], object] = lambda _: None


def sample_block(
    subjects: Mapping[Key, Subject],
    clock: Clock,
    schedule: Schedule,
    asked: Sequence[tuple[Key, Key]],
    instruments: Instruments[Key] | None = None,
) -> dict[Key, Samples]:
    """Take the samples of all subjects, cycle by cycle, until their ratios suffice or the budget ends.

    An interrupt (Ctrl-C) ends the sampling too: whole cycles are kept if there are at least two. Leading cycles in
    which a subject was not yet warm, compared with the others, count as warm-up.

    Args:
        subjects: Subjects by key, ready to be called.
        clock: Clock of their device.
        schedule: Budget for each subject, and when a ratio suffices.
        asked: Numerator and denominator of each ratio that is wanted; without any, the latencies end the sampling.
        instruments: Observers; None for none.

    Returns:
        The samples by key. The n-th groups of all of them are the n-th cycle.

    Raises:
        WrongResult: If the clock jumped.
    """
    observers: Instruments[Key] = instruments or Instruments()
    samples = {key: Samples() for key in subjects}
    with collector_paused():
        estimates = {}
        for key, subject in subjects.items():
            estimates[key] = _warm_up(subject, clock, schedule, samples[key])
            observers.after_turn(key)
        try:
            stopped = _take_cycles(_Cycle(subjects, clock, samples, estimates, observers), schedule, asked)
        except KeyboardInterrupt:
            whole = min(len(each.groups) for each in samples.values())
            if whole < LEAST_KEPT:
                raise
            stopped = INTERRUPTED
            for each in samples.values():
                each.keep(whole)
    leading = transient(np.array([[statistics.median(turn) for turn in each.wall()] for each in samples.values()]).T)
    for each in samples.values():
        each.stopped = stopped
        each.count_as_warm_up(leading)
    return samples


@dataclass(frozen=True)
class _Cycle(Generic[Key]):
    """What a cycle needs.

    Attributes:
        subjects: Subjects by key.
        clock: Clock of their device.
        samples: Samples by key, to which each cycle adds a group.
        estimates: Seconds of a round by key.
        observers: Observers.
    """

    subjects: Mapping[Key, Subject]
    clock: Clock
    samples: Mapping[Key, Samples]
    estimates: Mapping[Key, float]
    observers: Instruments[Key]

    def take(self, order: Iterable[Key]) -> float:
        """Give each subject its turn, and return the seconds of all rounds."""
        rounds = rounds_in_turn(max(self.estimates.values()))
        for key in order:
            cold = self.estimates[key] < SLOW_ROUND
            subject, samples = self.subjects[key], self.samples[key]
            take_group(subject, self.clock, samples, rounds, self.observers.meter, cold_round=cold)
            self.observers.after_turn(key)
        return sum(reading.wall for each in self.samples.values() for reading in each.groups[-1])


def _take_cycles(cycle: _Cycle[Key], schedule: Schedule, asked: Sequence[tuple[Key, Key]]) -> str:
    """Take cycles until the ratios suffice or the budget ends, and return which."""
    # A turn may follow the same subject's: fresh addresses and a cold round make that harmless.
    generator = random.Random(0)  # noqa: S311 - mixes turns, hides nothing
    budget = schedule.budget * len(cycle.subjects)
    count, spent, widest, look = 0, 0.0, math.inf, schedule.settled_groups
    while True:
        count += 1
        spent += cycle.take(generator.sample(list(cycle.subjects), len(cycle.subjects)))
        if count >= look and spent >= budget * LEAST_SPENT:
            groups = {key: each.wall() for key, each in cycle.samples.items()}
            enough, widest = _look(groups, asked, schedule)
            if enough:
                return "interval"
            look = math.ceil(count * LOOK)
        cycle.observers.watch(Progress(count, widest, spent, budget))
        if count >= schedule.least_groups and spent >= budget:
            return "budget"


def reason_to_stop(groups: Groups[Key], asked: Iterable[tuple[Key, Key]], schedule: Schedule) -> str:
    """Return `interval` where all ratios suffice, `budget` where no time is left, and an empty text otherwise.

    Args:
        groups: Seconds of the rounds by subject and cycle.
        asked: Numerator and denominator of each ratio; without any, the latencies count.
        schedule: Budget and precision.
    """
    count = len(next(iter(groups.values())))
    spent = sum(sum(map(sum, each)) for each in groups.values())
    if count >= schedule.settled_groups and _look(groups, asked, schedule)[0]:
        return "interval"
    return "budget" if count >= schedule.least_groups and spent >= schedule.budget * len(groups) else ""


def _look(groups: Groups[Key], asked: Iterable[tuple[Key, Key]], schedule: Schedule) -> tuple[bool, float]:
    """Return whether all ratios suffice, and the half-width of the widest; without ratios, those of the latencies."""
    ratios = [paired_ratio(groups[one], groups[other]) for one, other in asked]
    if not ratios:
        widest = max(median_interval(each).half_width for each in groups.values())
        return widest <= schedule.interval, widest
    return all(map(schedule.suffices, ratios)), max(ratio.half_width for ratio in ratios)


def sample_together(subjects: Mapping[str, Subject], clock: Clock, schedule: Schedule) -> PairedSamples:
    """Take the samples of at least two subjects until all ratios to the last are narrow; see `sample_block`."""
    *others, last = subjects
    samples = sample_block(subjects, clock, schedule, [(name, last) for name in others])
    return PairedSamples({name: each.wall() for name, each in samples.items()}, samples[last].stopped)


def rounds_in_turn(slowest: float) -> int:
    """Return the number of rounds of every turn of a block, an odd one.

    It is one number for all subjects, because the median of more rounds of skewed noise is smaller, and an odd one,
    because the median of two rounds is their mean.

    Args:
        slowest: Seconds of a round of the slowest subject.
    """
    return max(1, min(MOST_ROUNDS, int(TURN / slowest))) | 1


def draw_order(names: list[Key], rounds: int, seed: int) -> list[Key]:
    """Return every name once a round, in an order drawn for each, and none twice in a row, nor the last name first.

    A name that follows itself finds its own data in cache. A fixed order always puts the same name behind another.

    Args:
        names: Names in the order in which they ran before; one alone can only follow itself.
        rounds: Number of rounds.
        seed: Seed of the drawing; the same seed gives the same order.
    """
    if len(names) == 1:
        return names * rounds
    generator, order = random.Random(seed), names[-1:]  # noqa: S311 - mixes rounds, hides nothing
    while len(order) <= rounds * len(names):
        drawn = generator.sample(names, len(names))
        if drawn[0] != order[-1]:
            order += drawn
    return order[1:]


def _warm_up(subject: Subject, clock: Clock, schedule: Schedule, samples: Samples) -> float:
    """Warm a subject up, and return the seconds of one round."""
    history = warm_up(subject, clock, schedule, samples)
    return statistics.median(reading.wall for reading in history[-WARM_UP_ROUNDS:])
