"""Replicas: the same cases timed again in processes of their own, because processes of one commit differ.

Each lives as long as the run, loads PyTorch once, and works only while the others wait.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Protocol

from cnnperf.errors import CnnperfError
from cnnperf.records.case import Case

GRACE = 5.0  # seconds for a process to end by itself


class Stopwatch(Protocol):
    """Time cases in a process of its own."""

    def latency(self, case: Case) -> float:
        """Return the median seconds of one call."""


class Replicas:
    """Further processes that time cases."""

    def __init__(self, count: int, make: Callable[[], Stopwatch]) -> None:
        """Start so many processes; `make` is called in each and must be picklable."""
        context = multiprocessing.get_context("spawn")  # a forked process would share the parent's memory placement
        self._ends: list[Connection] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), daemon=True)
            process.start()
            theirs.close()  # so that the death of either is seen by the other as the end of the pipe
            self._ends.append(ours)
            self._processes.append(process)

    def latencies(self, case: Case) -> list[float]:
        """Time a case in every process, one after the other, in seconds.

        Raises:
            CnnperfError: If a process cannot time it, or died.
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
            raise CnnperfError(f"{where} cannot time it: {answer}")
        return float(answer)


def _serve(end: Connection, make: Callable[[], Stopwatch]) -> None:
    """Answer cases with seconds, or with why there are none, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the parent decides
    stopwatch = make()
    for case in _cases(end):
        try:
            answer: float | str = stopwatch.latency(case)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
            answer = f"{type(error).__name__}: {error}"
        end.send(answer)


def _cases(end: Connection) -> Iterator[Case]:
    while True:
        try:
            yield end.recv()
        except EOFError:
            return
