"""The clocks: what one round takes on a device."""

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
        cpu: CPU time that all threads of this process used meanwhile.
        event: Time between CUDA events around the call, or None on the CPU.
        setup: Host time of the round's set-up before the call; no part of `wall`.
    """

    wall: float
    cpu: float
    event: float | None = None
    setup: float = 0.0


@dataclass(frozen=True)
class QueueReading:
    """Wall seconds of several calls that were given without synchronizing in between.

    Attributes:
        launched: Until the host had given the last one.
        total: Until the device was done with all.
    """

    launched: float
    total: float


class Clock(Protocol):
    """Time calls, and tell the time that budgets are made of."""

    def now(self) -> float:
        """Return monotonic seconds once the device has done all that it was given."""

    def read(self, call: Call) -> Reading:
        """Run the call once and return its times."""


class CpuClock:
    """Time synchronous calls with the wall clock."""

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
    """Time asynchronous calls: synchronized wall time, and event time inside it.

    Event time is float32 milliseconds, good to 2^-24 of its value, so one pair of events spans one call only.
    """

    def __init__(self, device: torch.device) -> None:
        """Create the two events on the device whose calls are timed."""
        self._device = device
        self._start = torch.cuda.Event(enable_timing=True)
        self._stop = torch.cuda.Event(enable_timing=True)

    def now(self) -> float:
        """Return monotonic seconds once the device has nothing left to do."""
        torch.cuda.synchronize(self._device)
        return super().now()

    def read(self, call: Call) -> Reading:
        """Run the call once between two synchronizations and return its times."""
        torch.cuda.synchronize(self._device)
        reading = super().read(lambda: self._between_events(call))
        return Reading(reading.wall, reading.cpu, self._start.elapsed_time(self._stop) / 1e3)

    def read_queue(self, call: Call, calls: int, meanwhile: Call | None = None) -> QueueReading:
        """Run the call several times between two synchronizations and return the wall seconds of all.

        Args:
            call: Asynchronous.
            calls: How often.
            meanwhile: Run once while the device still works.
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
        """Run the call while the device is kept busy, and return its event seconds and whether all of it was queued."""
        stream = torch.cuda.current_stream(self._device)
        torch.cuda.synchronize(self._device)
        with torch.cuda.device(self._device):
            torch.cuda._sleep(delay)  # noqa: SLF001 - PyTorch's only kernel of a given length
        self._start.record(stream)
        call()
        self._stop.record(stream)
        behind = not self._start.query()
        torch.cuda.synchronize(self._device)
        return self._start.elapsed_time(self._stop) / 1e3, behind

    def _between_events(self, call: Call) -> None:
        stream = torch.cuda.current_stream(self._device)
        self._start.record(stream)
        call()
        self._stop.record(stream)
        torch.cuda.synchronize(self._device)


def clock_for(device: torch.device) -> Clock:
    """Return the clock of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
