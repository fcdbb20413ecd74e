"""Replicas: further processes that measure the same blocks, because the times of equal processes differ.

A replica lives as long as the run and loads PyTorch once. Only one process works at a time.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Protocol

from cnnperf.errors import CnnperfError
from cnnperf.measure.block_task import BlockTask
from cnnperf.measure.exhaustion import release_caches
from cnnperf.measure.measured import Measured
from cnnperf.measure.sampler import Schedule
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import Over
from cnnperf.stats.processes import ratio_over_processes

GRACE = 5.0  # seconds for a process to exit by itself


@dataclass(frozen=True)
class Repetition:
    """Result of a block in a further process.

    Attributes:
        latencies: Median seconds of one call by case.
        ratios: Paired ratios by numerator and denominator.
        errors: By case, why the process has no result for it.
    """

    latencies: Mapping[Case, float] = field(default_factory=dict)
    ratios: Mapping[tuple[Case, Case], Value] = field(default_factory=dict)
    errors: Mapping[Case, str] = field(default_factory=dict)


class Measurer(Protocol):
    """Measurement of blocks in a process of its own."""

    def measure_block(
        self, name: str, cases: Sequence[Case], asked: Sequence[tuple[Case, Case]], schedule: Schedule | None = None
    ) -> Mapping[Case, Measured | CnnperfError]:
        """Measure cases side by side; return the result of each, or the reason why there is none."""


class Replicas:
    """Processes that measure blocks one after the other."""

    def __init__(self, count: int, make: Callable[[], Measurer]) -> None:
        """Start `count` processes, each of which calls `make`, which must be picklable."""
        context = multiprocessing.get_context("spawn")  # a forked process would share the parent's memory placement
        self._ends: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), daemon=True)
            process.start()
            theirs.close()  # so that each side gets EOFError when the other one dies
            self._ends.append(ours)
            self._processes.append(process)

    def repeat(self, task: BlockTask) -> list[Repetition]:
        """Return the result of a block in each process, one after the other; a process that died has errors alone."""
        _release(task)
        return [self._ask(number, task) for number in range(len(self._ends))]

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(GRACE)
            process.kill()
            process.join()
        self._ends, self._processes = [], []

    def _ask(self, number: int, task: BlockTask) -> Repetition:
        where = f"process {number + 2} of {len(self._ends) + 1}"
        try:
            self._ends[number].send(task)
            answer: Repetition = self._ends[number].recv()
        except (EOFError, OSError):
            self._processes[number].join(GRACE)
            status = self._processes[number].exitcode
            died = f"{where} died (exit status {status}); it may have run out of memory: use fewer --cnnperf-processes"
            return Repetition(errors={case: f"{case.label()}: {died}" for case in task.cases})
        errors = {case: f"{case.label()}: {where} cannot time the case: {why}" for case, why in answer.errors.items()}
        return replace(answer, errors=errors)


def with_repetitions(measured: Measured, repetitions: Sequence[Repetition]) -> Measured | CnnperfError:
    """Return the result of a case with those of further processes, or the error of the first of them that has none.

    A ratio is that over the processes which have measured both of its cases side by side.
    """
    case = measured.case
    for repetition in repetitions:
        if case in repetition.errors:
            return CnnperfError(repetition.errors[case])
    seconds = (measured.values["latency"].value, *(repetition.latencies[case] for repetition in repetitions))
    ratios = tuple(_over_processes(case, over, repetitions) for over in measured.ratios)
    return replace(measured, processes=seconds, ratios=ratios)


def _over_processes(case: Case, over: Over, repetitions: Sequence[Repetition]) -> Over:
    pair = case, case.replace(**over.axes)
    ratios = [over.ratio, *(repetition.ratios[pair] for repetition in repetitions if pair in repetition.ratios)]
    return over if len(ratios) == 1 else Over(over.axes, ratio_over_processes(ratios), len(ratios))


def _serve(end: Connection, make: Callable[[], Measurer]) -> None:
    """Answer each block with its result, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    laboratory = make()
    for task in _tasks(end):
        try:
            results = laboratory.measure_block(task.name, task.cases, task.asked, task.schedule)
            answer = _repetition(results)
        except Exception as error:  # noqa: BLE001 - the parent reports any error
            answer = Repetition(errors=dict.fromkeys(task.cases, f"{type(error).__name__}: {error}"))
        _release(task)
        end.send(answer)


def _repetition(results: Mapping[Case, Measured | CnnperfError]) -> Repetition:
    latencies: dict[Case, float] = {}
    ratios: dict[tuple[Case, Case], Value] = {}
    errors: dict[Case, str] = {}
    for case, result in results.items():
        if isinstance(result, CnnperfError):
            errors[case] = f"{type(result).__name__}: {result}"
            continue
        latencies[case] = result.values["latency"].value
        ratios |= {(case, case.replace(**over.axes)): over.ratio for over in result.ratios}
    return Repetition(latencies, ratios, errors)


def _release(task: BlockTask) -> None:
    """Release the memory that a process caches on the devices of a block, for the process that works next."""
    for case in {case.device: case for case in task.cases}.values():
        release_caches(case)


def _tasks(end: Connection) -> Iterator[BlockTask]:
    while True:
        try:
            yield end.recv()
        except EOFError:
            return
