"""Rounds of several numbers of processes in turn, so that what disturbs the machine meets them all."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from cnnperf.measure.clock import Clock
from cnnperf.measure.paired import WARM_UP_ROUNDS, draw_order, reason_to_stop
from cnnperf.measure.sampler import Schedule, Subject, collector_paused, take_round
from cnnperf.scaling.communicator import Communicator
from cnnperf.stats.paired import PairedSamples

Seconds = Mapping[str, list[float]]


@dataclass(frozen=True)
class Gathered:
    """Samples of all processes.

    Attributes:
        together: Seconds by subject and group: those of a round are its slowest process's.
        ranks: By subject and process, the seconds of all rounds.
    """

    together: PairedSamples
    ranks: Mapping[str, list[list[float]]]


def sample_ranks(
    steps: Mapping[str, Subject | None], anchor: str, communicator: Communicator, clock: Clock, schedule: Schedule
) -> Gathered:
    """Take rounds of all subjects in turn, in groups at fresh placements, until all ratios to one of them are narrow.

    All processes meet before each round. The first one decides when it is enough, and all of them get all samples.

    Args:
        steps: By name, the same names in every process; None where this process has no part in a subject.
        anchor: The subject to which all others are compared.
        communicator: The processes.
        clock: Of this process's device.
        schedule: As for one case; its budget is that of each subject.

    Raises:
        WrongResult: If a clock jumped.
        RuntimeError: If a process is lost.
    """
    groups: dict[str, list[list[float]]] = {name: [] for name in steps}
    ranks: dict[str, list[list[float]]] = {}
    with collector_paused():
        rounds = schedule.rounds_in_group(_warm_up(steps, communicator, clock) / len(steps))
        asked, stopped = [(anchor, name) for name in steps if name != anchor], ""
        while not stopped:
            everyone = communicator.all_gather(_take_group(steps, rounds, len(groups[anchor]), communicator, clock))
            for name in steps:
                parts = [own[name] for own in everyone if name in own]
                groups[name].append(slowest(parts))
                for kept, part in zip(ranks.setdefault(name, [[] for _ in parts]), parts, strict=True):
                    kept.extend(part)
            stopped = communicator.broadcast(reason_to_stop(groups, asked, schedule))
    return Gathered(PairedSamples(groups, stopped), ranks)


def slowest(parts: list[list[float]]) -> list[float]:
    """Return the seconds of each round: those of its slowest process."""
    return [max(seconds) for seconds in zip(*parts, strict=True)]


def _warm_up(steps: Mapping[str, Subject | None], communicator: Communicator, clock: Clock) -> float:
    """Return the seconds that one round of all subjects takes."""
    total = 0.0
    for step in steps.values():
        seconds = [_round(step, communicator, clock) for _ in range(WARM_UP_ROUNDS)]
        total += max(communicator.all_gather(statistics.median(seconds[1:])))
    return total


def _take_group(
    steps: Mapping[str, Subject | None], rounds: int, number: int, communicator: Communicator, clock: Clock
) -> Seconds:
    for step in steps.values():
        if step is not None:
            step.relocate()
    for step in steps.values():
        _round(step, communicator, clock)
    seconds: dict[str, list[float]] = {name: [] for name, step in steps.items() if step is not None}
    for name in draw_order(list(steps), rounds, number):
        taken = _round(steps[name], communicator, clock)
        if name in seconds:
            seconds[name].append(taken)
    return seconds


def _round(step: Subject | None, communicator: Communicator, clock: Clock) -> float:
    """Return this process's seconds, 0 where it has no part."""
    communicator.barrier()
    return 0.0 if step is None else take_round(step, clock).wall
