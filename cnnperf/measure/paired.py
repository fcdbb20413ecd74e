"""Several subjects in one run, round by round: what differs between two runs cancels in their ratios."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping

from cnnperf.measure.clock import Clock
from cnnperf.measure.sampler import Schedule, Subject, collector_paused, take_round
from cnnperf.stats.paired import PairedSamples

WARM_UP_ROUNDS = 3  # at least; compiled subjects compile in the first


def sample_together(subjects: Mapping[str, Subject], clock: Clock, schedule: Schedule) -> PairedSamples:
    """Take rounds of all subjects in turn, in groups at fresh placements, until all ratios to the last are narrow.

    The order is drawn anew for every round, so that no subject always follows the same other, and none ever follows
    itself: it would find its own data in cache, which turning a fixed order round gives to the first and the last. The
    schedule's budget is that of each subject.

    Args:
        subjects: By name, at least two; the last is the one whose ratios end the sampling.
        clock: Of their device.
        schedule: As for one case.

    Raises:
        WrongResult: If the clock jumped.
    """
    groups: dict[str, list[list[float]]] = {name: [] for name in subjects}
    *others, last = subjects
    with collector_paused():
        round_seconds = _warm_up(subjects, clock)
        rounds = schedule.rounds_in_group(round_seconds / len(subjects))
        so_far = PairedSamples(groups, "budget")
        while True:
            _take_group(subjects, clock, rounds, groups)
            count, spent = len(groups[last]), sum(sum(map(sum, each)) for each in groups.values())
            widest = max(so_far.ratio(name, last).half_width for name in others)
            if count >= schedule.settled_groups and widest <= schedule.interval:
                return PairedSamples(groups, "interval")
            if count >= schedule.least_groups and spent >= schedule.budget * len(subjects):
                return so_far


def _warm_up(subjects: Mapping[str, Subject], clock: Clock) -> float:
    """Return the seconds that one round of all subjects takes."""
    return sum(
        statistics.median([take_round(subject, clock).wall for _ in range(WARM_UP_ROUNDS)][1:])
        for subject in subjects.values()
    )


def _take_group(
    subjects: Mapping[str, Subject], clock: Clock, rounds: int, groups: dict[str, list[list[float]]]
) -> None:
    for name, subject in subjects.items():
        subject.relocate()
        take_round(subject, clock)
        groups[name].append([])
    for name in draw_order(list(subjects), rounds, len(groups[next(iter(subjects))])):
        groups[name][-1].append(take_round(subjects[name], clock).wall)


def draw_order(names: list[str], rounds: int, seed: int) -> list[str]:
    """Return every name once a round, in an order drawn for each, and none twice in a row, nor the last name first.

    Args:
        names: In the order in which they ran before; one alone can only follow itself.
        rounds: How many.
        seed: Of the drawing; the same gives the same order.
    """
    if len(names) == 1:
        return names * rounds
    generator, order = random.Random(seed), names[-1:]  # noqa: S311 - mixes rounds, hides nothing
    while len(order) <= rounds * len(names):
        drawn = generator.sample(names, len(names))
        if drawn[0] != order[-1]:
            order += drawn
    return order[1:]
