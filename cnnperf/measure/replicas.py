"""Replicas: further processes that time the same cases, because the times of equal processes differ.

A replica lives as long as the run and loads PyTorch once. Only one process works at a time.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Protocol

from cnnperf.errors import CnnperfError
from cnnperf.records.case import Case

GRACE = 5.0  # seconds for a process to exit by itself


class Stopwatch(Protocol):
    """Timer of cases in a process of its own."""

    def latency(self, case: Case) -> float:
        """Return the median seconds of one call."""


class Replicas:
    """Processes that time cases one after the other."""

    def __init__(self, count: int, make: Callable[[], Stopwatch]) -> None:
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

    def latencies(self, case: Case) -> list[float]:
        """Return the median seconds of a case in each process, timed one after the other.

        Raises:
            CnnperfError: If a process cannot time the case, or died.
        """
        return [self._ask(number, case) for number in range(len(self._ends))]

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(GRACE)
            process.kill()
            process.join()
        self._ends, self._processes = [], []

    def _ask(self, number: int, case: Case) -> float:
        where = f"{case.label()}: process {number + 2} of {len(self._ends) + 1}"
        try:
            self._ends[number].send(case)
            answer = self._ends[number].recv()
        except (EOFError, OSError) as error:
            self._processes[number].join(GRACE)
            status = self._processes[number].exitcode
            raise CnnperfError(
                f"{where} died (exit status {status}); it may have run out of memory: use fewer --cnnperf-processes"
            ) from error
        if isinstance(answer, str):
            raise CnnperfError(f"{where} cannot time the case: {answer}")
        return float(answer)


def _serve(end: Connection, make: Callable[[], Stopwatch]) -> None:
    """Answer each case with its seconds or an error text, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    stopwatch = make()
    for case in _cases(end):
        try:
            answer: float | str = stopwatch.latency(case)
        except Exception as error:  # noqa: BLE001 - the parent reports any error
            answer = f"{type(error).__name__}: {error}"
        end.send(answer)


def _cases(end: Connection) -> Iterator[Case]:
    while True:
        try:
            yield end.recv()
        except EOFError:
            return
