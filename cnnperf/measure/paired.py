"""Several subjects side by side, cycle by cycle: what differs between two runs or two minutes cancels in their ratios.

In each cycle every subject gets fresh memory addresses and one turn, in an order that is drawn anew. A turn lasts some
40 ms, or one round where that is longer. The n-th turns of two subjects are a pair.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from cnnperf.measure.clock import Clock
from cnnperf.measure.sampler import SLOW_ROUND, Meter, Samples, Schedule, Subject, collector_paused, take_group, warm_up
from cnnperf.stats.median import median_interval
from cnnperf.stats.paired import PairedSamples, paired_ratio

WARM_UP_ROUNDS = 3  # whose median is the estimate; compiled subjects of `scaling` compile in the first
TURN = 0.04  # seconds: short against what disturbs a machine, and long against a warm call

Key = TypeVar("Key", bound=Hashable)
Groups = Mapping[Key, Sequence[Sequence[float]]]


def sample_block(
    subjects: Mapping[Key, Subject],
    clock: Clock,
    schedule: Schedule,
    asked: Sequence[tuple[Key, Key]],
    meter: Meter | None = None,
    after_turn: Callable[[Key], None] | None = None,
) -> dict[Key, Samples]:
    """Take the samples of all subjects, cycle by cycle, until their ratios are narrow or the budget ends.

    Args:
        subjects: Subjects by key, ready to be called.
        clock: Clock of their device.
        schedule: Budget for each subject, and wanted half-width of each ratio.
        asked: Numerator and denominator of each ratio that is wanted; without any, the latencies end the sampling.
        meter: Counter of energy, read before and after each turn.
        after_turn: Called with the key of the subject after its warm-up and after each turn.

    Returns:
        The samples by key. The n-th groups of all of them are the n-th cycle.

    Raises:
        WrongResult: If the clock jumped.
    """
    samples = {key: Samples() for key in subjects}
    with collector_paused():
        estimates = {}
        for key, subject in subjects.items():
            estimates[key] = _warm_up(subject, clock, schedule, samples[key])
            if after_turn is not None:
                after_turn(key)
        # A turn may follow the same subject's: fresh addresses and a cold round make that harmless.
        stopped, generator = "", random.Random(0)  # noqa: S311 - mixes turns, hides nothing
        while not stopped:
            for key in generator.sample(list(subjects), len(subjects)):
                rounds = max(1, min(schedule.rounds_in_group(estimates[key]), int(TURN / estimates[key])))
                cold_round = estimates[key] < SLOW_ROUND
                take_group(subjects[key], clock, samples[key], rounds, meter, cold_round=cold_round)
                if after_turn is not None:
                    after_turn(key)
            stopped = reason_to_stop({key: each.wall() for key, each in samples.items()}, asked, schedule)
    for each in samples.values():
        each.stopped = stopped
    return samples


def sample_together(subjects: Mapping[str, Subject], clock: Clock, schedule: Schedule) -> PairedSamples:
    """Take the samples of at least two subjects until all ratios to the last are narrow; see `sample_block`."""
    *others, last = subjects
    samples = sample_block(subjects, clock, schedule, [(name, last) for name in others])
    return PairedSamples({name: each.wall() for name, each in samples.items()}, samples[last].stopped)


def reason_to_stop(groups: Groups[Key], asked: Iterable[tuple[Key, Key]], schedule: Schedule) -> str:
    """Return `interval` where all ratios are narrow, `budget` where no time is left, and an empty text otherwise.

    Args:
        groups: Seconds of the rounds by subject and cycle.
        asked: Numerator and denominator of each ratio; without any, the latencies count.
        schedule: Budget and precision.
    """
    count = len(next(iter(groups.values())))
    spent = sum(sum(map(sum, each)) for each in groups.values())
    if count >= schedule.settled_groups:
        values = [paired_ratio(groups[one], groups[other]) for one, other in asked]
        values = values or [median_interval(each) for each in groups.values()]
        if max(value.half_width for value in values) <= schedule.interval:
            return "interval"
    return "budget" if count >= schedule.least_groups and spent >= schedule.budget * len(groups) else ""


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
