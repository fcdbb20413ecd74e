"""A GPU under load: clock, slowdowns, power and energy a call while calls follow one another."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from cnnperf.measure.clock import Call, QueueReading
from cnnperf.measure.nvml import GpuState
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval

QUEUE_SECONDS = 0.05
SEGMENT_SECONDS = 0.2
"""Least time between two counts of energy that are compared.

GPUs renew such readings every 20 to 100 ms (Yang, Adamek and Armour, "Part-time Power Measurements: nvidia-smi's Lack
of Attention", 2023, https://arxiv.org/abs/2312.02741); each segment begins and ends where the counter was renewed.
"""
SEGMENTS = 6
LONGEST = 4.0  # seconds; a counter that is not renewed by then is given up
MOST_QUEUED = 10_000


class Meter(Protocol):
    """GPU that counts its energy."""

    def joules(self) -> float | None:
        """Return the energy so far in J."""

    def state(self) -> GpuState | None:
        """Return clock and slowdowns now."""


class LoadClock(Protocol):
    """Clock that can be asked something while the device works."""

    def now(self) -> float:
        """Return seconds once the device has nothing left to do."""

    def read_queue(self, call: Call, calls: int, meanwhile: Call | None = None) -> QueueReading:
        """Run the call several times, then `meanwhile`, then wait for the device."""


@dataclass(frozen=True)
class Load:
    """What a GPU told under load.

    Attributes:
        sm_clock: Hz, median and range over the readings; None where it is not told.
        power: W; None where energy is not counted.
        energy: J a call; None likewise.
        slowdowns: Reasons for lowered clocks, each once.
    """

    sm_clock: Value | None
    power: Value | None
    energy: Value | None
    slowdowns: tuple[str, ...]


@dataclass(frozen=True)
class _Count:
    """Time in s, calls done and energy in J where the counter was renewed."""

    seconds: float
    calls: int
    joules: float


@dataclass
class _Readings:
    states: list[GpuState] = field(default_factory=list)
    renewed: list[_Count] = field(default_factory=list)


def read_load(call: Call, clock: LoadClock, meter: Meter, latency: float) -> Load:
    """Let calls follow one another for a second or two, and read the GPU meanwhile.

    Args:
        call: Asynchronous, with no set-up of its own.
        clock: Of the device.
        meter: Of its GPU.
        latency: Seconds of one call.
    """
    calls = max(1, min(MOST_QUEUED, int(QUEUE_SECONDS / latency)))
    readings, begin, done = _Readings(), clock.now(), 0
    last = meter.joules()
    while clock.now() - begin < LONGEST and len(readings.renewed) <= SEGMENTS:
        clock.read_queue(call, calls, meanwhile=_noting(meter, readings.states))
        done += calls
        joules = meter.joules()
        if joules is None and clock.now() - begin >= SEGMENT_SECONDS * SEGMENTS:
            break
        if joules is not None and joules != last:
            last = joules
            _keep(readings.renewed, _Count(clock.now(), done, joules))
    return _load_of(readings)


def _noting(meter: Meter, states: list[GpuState]) -> Callable[[], None]:
    def note() -> None:
        state = meter.state()
        if state is not None:
            states.append(state)

    return note


def _keep(renewed: list[_Count], reading: _Count) -> None:
    if not renewed or reading.seconds - renewed[-1].seconds >= SEGMENT_SECONDS:
        renewed.append(reading)


def _load_of(readings: _Readings) -> Load:
    pairs = list(zip(readings.renewed, readings.renewed[1:], strict=False))
    clocks = [state.sm_clock for state in readings.states]
    reasons = (reason for state in readings.states for reason in state.slowdowns)
    whole = (readings.renewed[0], readings.renewed[-1]) if pairs else None
    return Load(
        sm_clock=Value(statistics.median(clocks), min(clocks), max(clocks), len(clocks)) if clocks else None,
        power=_over(whole, pairs, lambda a, b: (b.joules - a.joules) / (b.seconds - a.seconds)),
        energy=_over(whole, pairs, lambda a, b: (b.joules - a.joules) / (b.calls - a.calls)),
        slowdowns=tuple(dict.fromkeys(reasons)),
    )


def _over(
    whole: tuple[_Count, _Count] | None,
    pairs: Sequence[tuple[_Count, _Count]],
    rate: Callable[[_Count, _Count], float],
) -> Value | None:
    """Return a rate over all counts, whose ends matter least there, with the interval of those between two counts."""
    if whole is None:
        return None
    parts = median_interval([[rate(*pair)] for pair in pairs])
    return msgspec.structs.replace(parts, value=rate(*whole))
