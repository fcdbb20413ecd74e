"""Clocks: the times of one call on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

Call = Callable[[], None]


@dataclass(frozen=True)
class Reading:
    """Times of one call, all in seconds.

    Attributes:
        wall: Host time; on CUDA with synchronization before and after.
        cpu: CPU time of all threads of this process during the call.
        event: Time between CUDA events around the call; None on the CPU.
        setup: Host time of the round's set-up before the call; not part of `wall`.
    """

    wall: float
    cpu: float
    event: float | None = None
    setup: float = 0.0

    def divided(self, calls: int) -> Reading:
        """Return the times of one of several calls that were read together."""
        event = None if self.event is None else self.event / calls
        return Reading(self.wall / calls, self.cpu / calls, event, self.setup / calls)


@dataclass(frozen=True)
class QueueReading:
    """Wall seconds of consecutive calls without synchronization in between.

    Attributes:
        launched: Seconds until the host had launched the last call.
        total: Seconds until the device had finished all calls.
    """

    launched: float
    total: float


class Clock(Protocol):
    """Timer of calls and of budgets."""

    def now(self) -> float:
        """Return monotonic seconds after waiting for the device."""

    def read(self, call: Call) -> Reading:
        """Run the call once and return its times."""


class CpuClock:
    """Clock of synchronous calls."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.perf_counter()

    def read(self, call: Call) -> Reading:
        """Run the call once and return its wall and CPU seconds."""
        cpu = time.process_time()
        start = time.perf_counter()
        call()
        wall = time.perf_counter() - start
        return Reading(wall, time.process_time() - cpu)


class CudaClock(CpuClock):
    """Clock of asynchronous calls: synchronized wall time, and event time within it.

    Event times are float32 milliseconds with a relative precision of 2^-24, so one pair of events spans one call only.
    """

    def __init__(self, device: torch.device) -> None:
        """Create the two events on the device whose calls are timed."""
        self._device = device
        self._start = torch.cuda.Event(enable_timing=True)
        self._stop = torch.cuda.Event(enable_timing=True)

    def now(self) -> float:
        """Return monotonic seconds after waiting for the device."""
        torch.cuda.synchronize(self._device)
        return super().now()

    def read(self, call: Call) -> Reading:
        """Run the call once between two synchronizations and return its times."""
        torch.cuda.synchronize(self._device)
        reading = super().read(lambda: self._between_events(call))
        return Reading(reading.wall, reading.cpu, self._start.elapsed_time(self._stop) / 1e3)

    def read_queue(self, call: Call, calls: int, meanwhile: Call | None = None) -> QueueReading:
        """Run a call several times between two synchronizations and return the wall seconds of all.

        Args:
            call: Asynchronous call.
            calls: Number of repetitions.
            meanwhile: Function that is called once while the device still works.
        """
        torch.cuda.synchronize(self._device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        launched = time.perf_counter() - start
        if meanwhile is not None:
            meanwhile()
        torch.cuda.synchronize(self._device)
        return QueueReading(launched, time.perf_counter() - start)

    def read_behind(self, call: Call, delay: int) -> tuple[float, bool]:
        """Run a call behind `delay` cycles of work; return its event seconds and whether it was fully queued."""
        stream = torch.cuda.current_stream(self._device)
        torch.cuda.synchronize(self._device)
        with torch.cuda.device(self._device):
            torch.cuda._sleep(delay)  # noqa: SLF001 - PyTorch's only kernel of a given length
        self._start.record(stream)
        call()
        self._stop.record(stream)
        queued = not self._start.query()
        torch.cuda.synchronize(self._device)
        return self._start.elapsed_time(self._stop) / 1e3, queued

    def _between_events(self, call: Call) -> None:
        stream = torch.cuda.current_stream(self._device)
        self._start.record(stream)
        call()
        self._stop.record(stream)
        torch.cuda.synchronize(self._device)


def clock_for(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
