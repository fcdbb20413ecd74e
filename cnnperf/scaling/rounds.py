"""Rounds on several numbers of processes in turns, so that disturbances of the machine affect all of them alike."""

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
        together: Seconds of rounds by subject and group; a round takes as long as its slowest process.
        ranks: Seconds of all rounds by subject and process.
    """

    together: PairedSamples
    ranks: Mapping[str, list[list[float]]]


def sample_ranks(
    steps: Mapping[str, Subject | None], anchor: str, communicator: Communicator, clock: Clock, schedule: Schedule
) -> Gathered:
    """Sample all subjects in turns, in groups at fresh placements, until all ratios to the anchor are narrow.

    All processes synchronize before each round. The first process decides when to stop; all get all samples.

    Args:
        steps: Subjects by name, with the same names in every process; None if this process takes no part in a subject.
        anchor: Name of the subject to which all others are compared.
        communicator: The processes.
        clock: Clock of this process's device.
        schedule: Schedule as for one case; its budget is that of each subject.

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
            own_seconds = _take_group(steps, rounds, len(groups[anchor]), communicator, clock)
            all_seconds = communicator.all_gather(own_seconds)
            for name in steps:
                processes = [seconds[name] for seconds in all_seconds if name in seconds]
                groups[name].append(slowest(processes))
                ranks.setdefault(name, [[] for _ in processes])
                for collected, seconds in zip(ranks[name], processes, strict=True):
                    collected.extend(seconds)
            stopped = communicator.broadcast(reason_to_stop(groups, asked, schedule))
    return Gathered(PairedSamples(groups, stopped), ranks)


def slowest(processes: list[list[float]]) -> list[float]:
    """Return the seconds of the slowest process in each round."""
    return [max(seconds) for seconds in zip(*processes, strict=True)]


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
        duration = _round(steps[name], communicator, clock)
        if name in seconds:
            seconds[name].append(duration)
    return seconds


def _round(step: Subject | None, communicator: Communicator, clock: Clock) -> float:
    """Run one round and return this process's wall seconds, 0 if it takes no part."""
    communicator.barrier()
    return 0.0 if step is None else take_round(step, clock).wall
