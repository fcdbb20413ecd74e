"""Cycles of a block: every subject at fresh addresses for one turn, in an order that is drawn anew."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from cnnperf.measure.clock import Clock
from cnnperf.measure.sampler import INTERRUPTED, LEAST_KEPT, SLOW_ROUND, Meter, Samples, Schedule, Subject, take_group
from cnnperf.stats.median import median_interval
from cnnperf.stats.paired import paired_ratio
from cnnperf.stats.transient import transient

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
        meters: Counter of energy of some subjects by key, read before and after each of their turns.
        after_turn: Called with the key of a subject after its warm-up and after each of its turns.
        watch: Called after each cycle.
    """

    meters: Mapping[Key, Meter] = field(default_factory=dict)
    after_turn: Callable[[Key], object] = lambda _: None
    watch: Callable[[Progress], object] = lambda _: None


@dataclass(frozen=True)
class Cycles(Generic[Key]):
    """Cycles of the subjects of a block.

    Attributes:
        subjects: Subjects by key.
        clocks: Clock of the device of each subject.
        estimates: Seconds of a round by key.
        samples: Samples by key, to which each cycle adds a group.
        observers: Observers.
        spent: Seconds of the rounds so far by key.
    """

    subjects: Mapping[Key, Subject]
    clocks: Mapping[Key, Clock]
    estimates: Mapping[Key, float]
    samples: Mapping[Key, Samples]
    observers: Instruments[Key]
    spent: dict[Key, float] = field(default_factory=dict)

    def run(self, schedule: Schedule, asked: Sequence[tuple[Key, Key]]) -> None:
        """Take cycles until the ratios suffice or all budgets end; note in the samples which."""
        # A turn may follow the same subject's: fresh addresses and a cold round make that harmless.
        generator = random.Random(0)  # noqa: S311 - mixes turns, hides nothing
        going = list(self.subjects)
        while going:
            pairs = [pair for pair in asked if set(pair) <= set(going)]
            stopped = self._run_together(going, schedule, pairs, generator)
            for key in going:
                self.samples[key].stopped = stopped
            going = [key for key in going if stopped == "budget" and self._spent_share(key, schedule) < 1]

    def keep_whole(self) -> bool:
        """Drop what an interrupted cycle has, and return whether enough whole cycles are left."""
        whole = {key: min(len(self.samples[other].groups) for other in self._beside(key)) for key in self.subjects}
        for key, samples in self.samples.items():
            samples.keep(whole[key])
            samples.stopped = INTERRUPTED
        return min(whole.values()) >= LEAST_KEPT

    def drop_transient(self) -> None:
        """Count leading cycles as warm-up in which a subject was not yet warm, compared with others of its clock."""
        leading = max(self._transient(key) for key in self.subjects)
        for samples in self.samples.values():  # the same cycles of all, so that the n-th stay pairs
            most = len(samples.groups) // 2
            samples.steady = leading < max(1, most)
            samples.count_as_warm_up(min(leading, most))

    def _transient(self, key: Key) -> int:
        turns = [[statistics.median(turn) for turn in self.samples[other].wall()] for other in self._beside(key)]
        return transient(np.array(turns).T)

    def _run_together(
        self,
        going: Sequence[Key],
        schedule: Schedule,
        asked: Sequence[tuple[Key, Key]],
        generator: random.Random,
    ) -> str:
        """Take cycles of some subjects until their ratios suffice or the budget of a clock ends, and return which."""
        budget = schedule.budget * len(self.subjects)
        count, widest = len(self.samples[going[0]].groups), math.inf
        look = max(schedule.settled_groups, count + 1)
        while True:
            count += 1
            self._take(generator.sample(going, len(going)))
            spent = sum(self.spent.values())
            share = max(self._spent_share(key, schedule) for key in going)
            if count >= look and share >= LEAST_SPENT:
                enough, widest = look_at({key: self.samples[key].wall() for key in going}, asked, schedule)
                if enough:
                    return "interval"
                look = math.ceil(count * LOOK)
            self.observers.watch(Progress(count, widest, spent, budget))
            if count >= schedule.least_groups and share >= 1:
                return "budget"

    def _take(self, order: Iterable[Key]) -> None:
        """Give each subject its turn."""
        for key in order:
            samples, meter = self.samples[key], self.observers.meters.get(key)
            rounds = rounds_in_turn(max(self.estimates[other] for other in self._beside(key)))
            cold = self.estimates[key] < SLOW_ROUND
            take_group(self.subjects[key], self.clocks[key], samples, rounds, meter, cold_round=cold)
            self.observers.after_turn(key)
            self.spent[key] = self.spent.get(key, 0.0) + sum(reading.wall for reading in samples.groups[-1])

    def _beside(self, key: Key) -> list[Key]:
        """Return the subjects of the clock of a subject, itself included."""
        return [other for other, clock in self.clocks.items() if clock is self.clocks[key]]

    def _spent_share(self, key: Key, schedule: Schedule) -> float:
        """Return the part of their budget that the subjects of the clock of a subject have spent."""
        sharing = self._beside(key)
        spent = sum(self.spent.get(other, 0.0) for other in sharing)
        return spent / (schedule.budget * len(sharing)) if schedule.budget else math.inf


def rounds_in_turn(slowest: float) -> int:
    """Return the number of rounds of every turn of the subjects of a clock, an odd one.

    It is one number for all of them, because the median of more rounds of skewed noise is smaller, and an odd one,
    because the median of two rounds is their mean.

    Args:
        slowest: Seconds of a round of the slowest subject.
    """
    return max(1, min(MOST_ROUNDS, int(TURN / slowest))) | 1


def look_at(groups: Groups[Key], asked: Iterable[tuple[Key, Key]], schedule: Schedule) -> tuple[bool, float]:
    """Return whether all ratios suffice, and the half-width of the widest; without ratios, those of the latencies."""
    ratios = [paired_ratio(groups[one], groups[other]) for one, other in asked]
    if not ratios:
        widest = max(median_interval(each).half_width for each in groups.values())
        return widest <= schedule.interval, widest
    return all(map(schedule.suffices, ratios)), max(ratio.half_width for ratio in ratios)
