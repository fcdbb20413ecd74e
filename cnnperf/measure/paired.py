"""Several subjects side by side, cycle by cycle: what differs between two runs or two minutes cancels in their ratios.

The n-th turns of two subjects are a pair; `cycles` says what a turn is, and `visits` how several blocks take turns.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cnnperf.errors import NetworkFailed
from cnnperf.measure.clock import Clock
from cnnperf.measure.cycles import Cycles, Groups, Instruments, Key, look_at
from cnnperf.measure.failures import converting_failures
from cnnperf.measure.sampler import Samples, Schedule, Subject, collector_paused, warm_up
from cnnperf.stats.paired import PairedSamples

WARM_UP = 0.25  # share of the time of a warm-up: the cases of a block have run before, and `transient` finds the rest
WARM_UP_ROUNDS = 3  # whose median is the estimate; compiled subjects of `scaling` compile in the first


def sample_block(
    subjects: Mapping[Key, Subject],
    clock: Clock | Mapping[Key, Clock],
    schedule: Schedule,
    asked: Sequence[tuple[Key, Key]],
    instruments: Instruments[Key] | None = None,
) -> dict[Key, Samples]:
    """Take the samples of all subjects, cycle by cycle, until their ratios suffice or the budget ends.

    The subjects of a clock share their budget. Where that of one clock ends first, the subjects of the other clocks go
    on among themselves: a GPU would have few cycles if it had to wait for a CPU in each of them.

    An interrupt (Ctrl-C) ends the sampling too: whole cycles are kept if there are at least two. Leading cycles in
    which a subject was not yet warm, compared with the others, count as warm-up.

    Args:
        subjects: Subjects by key, ready to be called.
        clock: Clock of their device, or the clock of each.
        schedule: Budget for each subject, and when a ratio suffices.
        asked: Numerator and denominator of each ratio that is wanted; without any, the latencies end the sampling.
        instruments: Observers; None for none.

    Returns:
        The samples by key. The n-th groups of all that have as many are the n-th cycle.

    Raises:
        WrongResult: If a clock jumped.
        OutOfMemory: If memory runs out.
        NetworkFailed: If a subject raised an error of its own.
    """
    with collector_paused():
        cycles = warm_cycles(subjects, clock, schedule, asked, instruments or Instruments())
        try:
            cycles.advance(1.0)
        except KeyboardInterrupt:
            if not cycles.keep_whole():
                raise
    for error in cycles.failed.values():
        raise error
    cycles.drop_transient()
    return cycles.samples


def warm_cycles(
    subjects: Mapping[Key, Subject],
    clock: Clock | Mapping[Key, Clock],
    schedule: Schedule,
    asked: Sequence[tuple[Key, Key]],
    observers: Instruments[Key],
) -> Cycles[Key]:
    """Warm all subjects of a block up, and return its cycles before the first; see `sample_block`.

    A subject that raises an error of its own is left out, and its error is in `failed`.
    """
    clocks = clock if isinstance(clock, Mapping) else dict.fromkeys(subjects, clock)
    samples: dict[Key, Samples] = {}
    estimates: dict[Key, float] = {}
    failed: dict[Key, NetworkFailed] = {}
    for key, subject in subjects.items():
        warmed = Samples()
        try:
            with converting_failures():
                estimates[key] = _warm_up(subject, clocks[key], schedule, warmed)
        except NetworkFailed as error:
            failed[key] = error
        else:
            samples[key] = warmed
        observers.after_turn(key)
    warm = {key: subjects[key] for key in samples}
    return Cycles(warm, {key: clocks[key] for key in warm}, estimates, samples, schedule, asked, observers, failed)


def sample_together(subjects: Mapping[str, Subject], clock: Clock, schedule: Schedule) -> PairedSamples:
    """Take the samples of at least two subjects until all ratios to the last are narrow; see `sample_block`."""
    *others, last = subjects
    samples = sample_block(subjects, clock, schedule, [(name, last) for name in others])
    return PairedSamples({name: each.wall() for name, each in samples.items()}, samples[last].stopped)


def reason_to_stop(groups: Groups[Key], asked: Iterable[tuple[Key, Key]], schedule: Schedule) -> str:
    """Return `interval` where all ratios suffice, `budget` where no time is left, and an empty text otherwise.

    Args:
        groups: Seconds of the rounds by subject and cycle.
        asked: Numerator and denominator of each ratio; without any, the latencies count.
        schedule: Budget and precision.
    """
    count = len(next(iter(groups.values())))
    spent = sum(sum(map(sum, each)) for each in groups.values())
    if count >= schedule.settled_groups and look_at(groups, asked, schedule)[0]:
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
    """Warm a subject up, and return the seconds of one round; what is left of a transient shows beside the others."""
    history = warm_up(subject, clock, replace(schedule, warmup=WARM_UP * schedule.warmup), samples)
    return statistics.median(reading.wall for reading in history[-WARM_UP_ROUNDS:])
