"""GPU under load: clock, slowdowns, power and energy per call during consecutive calls."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import msgspec

from cnnperf.measure.clock import Call, QueueReading
from cnnperf.measure.nvml import GpuState
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval

QUEUE_SECONDS = 0.05
SEGMENT_SECONDS = 0.2
"""Least seconds between two energy readings that are compared.

GPUs update such readings every 20 to 100 ms (Yang, Adamek and Armour, "Part-time Power Measurements: nvidia-smi's Lack
of Attention", 2023, https://arxiv.org/abs/2312.02741); each segment begins and ends at an update.
"""
SEGMENTS = 6
LONGEST = 4.0  # seconds until a counter without updates is given up
MOST_QUEUED = 10_000


class Meter(Protocol):
    """Meter of a GPU's energy, clock and slowdowns."""

    def joules(self) -> float | None:
        """Return the energy so far in J; None if it is not counted."""

    def state(self) -> GpuState | None:
        """Return the current clock and slowdowns."""


class LoadClock(Protocol):
    """Clock of queues of calls, with a function that runs while the device works."""

    def now(self) -> float:
        """Return seconds after waiting for the device."""

    def read_queue(self, call: Call, calls: int, meanwhile: Call | None = None) -> QueueReading:
        """Run the call several times, then `meanwhile`, then wait for the device."""


@dataclass(frozen=True)
class Load:
    """Readings of a GPU under load.

    Attributes:
        sm_clock: Clock in Hz, median and range over the readings; None if it is not reported.
        power: Power in W; None if energy is not counted.
        energy: Energy in J per call; None if energy is not counted.
        slowdowns: Reasons for lowered clocks, each once.
    """

    sm_clock: Value | None
    power: Value | None
    energy: Value | None
    slowdowns: tuple[str, ...]


@dataclass(frozen=True)
class _Count:
    """Time in s, finished calls and energy in J at an update of the counter."""

    seconds: float
    calls: int
    joules: float


@dataclass
class _Readings:
    states: list[GpuState] = field(default_factory=list)
    updates: list[_Count] = field(default_factory=list)


def read_load(call: Call, clock: LoadClock, meter: Meter, latency: float) -> Load:
    """Run consecutive calls for one or two seconds and read the GPU meanwhile.

    Args:
        call: Asynchronous call without a set-up of its own.
        clock: Clock of the device.
        meter: Meter of its GPU.
        latency: Seconds of one call.
    """
    calls = max(1, min(MOST_QUEUED, int(QUEUE_SECONDS / latency)))
    readings, begin, done = _Readings(), clock.now(), 0
    last = meter.joules()
    while clock.now() - begin < LONGEST and len(readings.updates) <= SEGMENTS:
        clock.read_queue(call, calls, meanwhile=lambda: _add_state(meter, readings.states))
        done += calls
        joules = meter.joules()
        if joules is None and clock.now() - begin >= SEGMENT_SECONDS * SEGMENTS:
            break
        if joules is not None and joules != last:
            last = joules
            _add_update(readings.updates, _Count(clock.now(), done, joules))
    return _load_of(readings)


def _add_state(meter: Meter, states: list[GpuState]) -> None:
    state = meter.state()
    if state is not None:
        states.append(state)


def _add_update(updates: list[_Count], count: _Count) -> None:
    if not updates or count.seconds - updates[-1].seconds >= SEGMENT_SECONDS:
        updates.append(count)


def _load_of(readings: _Readings) -> Load:
    clocks = [state.sm_clock for state in readings.states]
    reasons = (reason for state in readings.states for reason in state.slowdowns)
    return Load(
        sm_clock=Value(statistics.median(clocks), min(clocks), max(clocks), len(clocks)) if clocks else None,
        power=_rate(readings.updates, lambda a, b: (b.joules - a.joules) / (b.seconds - a.seconds)),
        energy=_rate(readings.updates, lambda a, b: (b.joules - a.joules) / (b.calls - a.calls)),
        slowdowns=tuple(dict.fromkeys(reasons)),
    )


def _rate(updates: Sequence[_Count], rate: Callable[[_Count, _Count], float]) -> Value | None:
    """Return the rate over all updates, which depends least on their ends, with the interval of successive rates."""
    if len(updates) < 2:  # noqa: PLR2004 - a rate needs two
        return None
    successive = median_interval([[rate(*pair)] for pair in pairwise(updates)])
    return msgspec.structs.replace(successive, value=rate(updates[0], updates[-1]))
