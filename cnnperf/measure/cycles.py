"""Cycles of a block: every subject at fresh addresses for one turn, in an order that is drawn anew."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from cnnperf.errors import NetworkFailed
from cnnperf.measure.clock import Clock
from cnnperf.measure.failures import converting_failures
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
    """State of the sampling of a block, or of several that are visited in turn.

    Attributes:
        cycles: Number of whole cycles.
        widest: Half-width of the widest ratio at the last look; infinity before the first look.
        spent: Seconds of all rounds so far.
        budget: Seconds that the rounds may take.
        visit: Number of the visit, from 1; 0 for a block alone.
        visits: Number of all visits.
    """

    cycles: int
    widest: float
    spent: float
    budget: float
    visit: int = 0
    visits: int = 0


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


@dataclass
class Cycles(Generic[Key]):
    """Cycles of the subjects of a block.

    Attributes:
        subjects: Subjects by key.
        clocks: Clock of the device of each subject.
        estimates: Seconds of a round by key.
        samples: Samples by key, to which each cycle adds a group.
        schedule: Budget for each subject, and when a ratio suffices.
        asked: Numerator and denominator of each ratio that is wanted.
        observers: Observers.
        failed: Error of each subject that raised one; the sampling goes on without these subjects.
        going: Keys of the subjects whose sampling has not ended.
        budget: Seconds that the rounds of all subjects may take.
    """

    subjects: dict[Key, Subject]
    clocks: dict[Key, Clock]
    estimates: Mapping[Key, float]
    samples: dict[Key, Samples]
    schedule: Schedule
    asked: Sequence[tuple[Key, Key]]
    observers: Instruments[Key]
    failed: dict[Key, NetworkFailed]
    going: list[Key] = field(init=False)
    budget: float = field(init=False)
    # A turn may follow the same subject's: fresh addresses and a cold round make that harmless.
    _generator: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - hides nothing
    _spent: dict[Key, float] = field(default_factory=dict)
    _widest: float = math.inf
    _look: int = 0

    def __post_init__(self) -> None:
        """Begin with all subjects."""
        self.going = list(self.subjects)
        self.budget = self.schedule.budget * len(self.subjects)

    def advance(self, share: float) -> None:
        """Take cycles until a share of the budget is spent, the ratios suffice or the budget ends.

        The samples of a subject note what ended them.

        Args:
            share: Share of the budget that is spent afterwards, earlier calls included; 1 takes all that is left.
        """
        while self.going and (share >= 1 or self._spent_share() < share):
            self._take(self._generator.sample(self.going, len(self.going)))
            if self.going:
                self._end_where_narrow()
            self.observers.watch(self.progress())
            if self.going and len(self.samples[self.going[0]].groups) >= self.schedule.least_groups:
                self._end("budget", [key for key in self.going if self._spent_share_of(key) >= 1])

    def spent(self) -> float:
        """Return the seconds of all rounds so far."""
        return sum(self._spent.values())

    def progress(self) -> Progress:
        """Return the state of the sampling."""
        cycles = max((len(samples.groups) for samples in self.samples.values()), default=0)
        return Progress(cycles, self._widest, self.spent(), self.budget)

    def keep_whole(self) -> bool:
        """Drop what an interrupted cycle has, and return whether enough whole cycles are left."""
        whole = {key: min(len(self.samples[other].groups) for other in self._beside(key)) for key in self.subjects}
        for key, samples in self.samples.items():
            samples.keep(whole[key])
            samples.stopped = INTERRUPTED
        return min(whole.values()) >= LEAST_KEPT

    def drop_transient(self, longest: float = 0.5) -> None:
        """Count leading cycles as warm-up in which a subject was not yet warm, compared with others of its clock.

        Args:
            longest: Largest share of the cycles that may be a warm-up; a longer one is a state of the machine.
        """
        leading = max(self._transient(key) for key in self.subjects)
        for samples in self.samples.values():  # the same cycles of all, so that the n-th stay pairs
            most = int(longest * len(samples.groups))
            samples.steady = leading < max(1, most) or leading > most
            samples.count_as_warm_up(leading if leading <= most else 0)

    def _transient(self, key: Key) -> int:
        turns = [[statistics.median(turn) for turn in self.samples[other].wall()] for other in self._beside(key)]
        return transient(np.array(turns).T)

    def _end_where_narrow(self) -> None:
        """End the sampling if the ratios suffice, which is looked at now and then in the second half of the budget."""
        count = len(self.samples[self.going[0]].groups)
        if count < max(self.schedule.settled_groups, self._look) or self._spent_share() < LEAST_SPENT:
            return
        asked = [pair for pair in self.asked if set(pair) <= set(self.going)]
        enough, self._widest = look_at({key: self.samples[key].wall() for key in self.going}, asked, self.schedule)
        self._look = max(count + 1, math.ceil(count * LOOK))
        if enough:
            self._end("interval", self.going)

    def _end(self, stopped: str, ended: Sequence[Key]) -> None:
        """End the sampling of some subjects; the others go on among themselves."""
        for key in ended:
            self.samples[key].stopped = stopped
        if ended:
            self.going = [key for key in self.going if key not in ended]

    def _take(self, order: Iterable[Key]) -> None:
        """Give each subject its turn; leave one out that raises an error of its own."""
        for key in order:
            try:
                with converting_failures():
                    self._turn(key)
            except NetworkFailed as error:  # others, of the clock or of memory, concern the whole block
                self.failed[key] = error
                self.going.remove(key)
                for known in (self.subjects, self.clocks, self.samples):
                    del known[key]

    def _turn(self, key: Key) -> None:
        samples, meter = self.samples[key], self.observers.meters.get(key)
        rounds = rounds_in_turn(max(self.estimates[other] for other in self._beside(key)))
        cold = self.estimates[key] < SLOW_ROUND
        take_group(self.subjects[key], self.clocks[key], samples, rounds, meter, cold_round=cold)
        self.observers.after_turn(key)
        self._spent[key] = self._spent.get(key, 0.0) + sum(reading.wall for reading in samples.groups[-1])

    def _beside(self, key: Key) -> list[Key]:
        """Return the subjects of the clock of a subject, itself included."""
        return [other for other, clock in self.clocks.items() if clock is self.clocks[key]]

    def _spent_share(self) -> float:
        """Return the part of the budget that is spent; where clocks differ, the largest part."""
        return max(map(self._spent_share_of, self.going))

    def _spent_share_of(self, key: Key) -> float:
        """Return the part of their budget that the subjects of the clock of a subject have spent."""
        sharing = self._beside(key)
        spent = sum(self._spent.get(other, 0.0) for other in sharing)
        budget = self.budget * len(sharing) / len(self.subjects)
        return spent / budget if budget else math.inf


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
