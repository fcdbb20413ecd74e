"""Measurements of CUDA devices only: the device's own time, and the throughput of consecutive calls.

Neither uses the profiler: CUPTI stays attached after the first profile and slows later measurements
(https://github.com/pytorch/pytorch/issues/144455), and a profile can miss its first kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cnnperf.measure.clock import Call
from cnnperf.measure.load import LoadClock, Meter, read_load
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval

FIRST_DELAY = 1 << 20  # device cycles: about half a millisecond
LONGEST_DELAY = 1 << 30  # about half a second; a call that takes the host longer must wait for the device itself
DELAY_GROWTH = 4
DEVICE_ROUNDS = 9  # least count whose 95 % interval excludes the extremes
QUEUE_SECONDS = 0.05
QUEUE_ROUNDS = 9
MOST_QUEUED = 100
FULL_QUEUE = 0.9
"""A queue counts as full if the host had launched all calls within this share of the total time."""


class DeviceClock(LoadClock, Protocol):
    """Clock of a device that executes calls asynchronously."""

    def read_behind(self, call: Call, delay: int) -> tuple[float, bool]:
        """Launch a call behind `delay` cycles of device work.

        Returns:
            Seconds on the device, and whether the host had launched the whole call before the device began it.
        """


class Subject(Protocol):
    """Untimed set-up and timed call."""

    def setup(self) -> None:
        """Prepare one call, untimed."""

    def run(self) -> None:
        """Run the call."""


@dataclass(frozen=True)
class DeviceFacts:
    """Values of a case that only a CUDA device has.

    Attributes:
        values: Values by the names of their metrics.
        queued: Whether a whole call could be launched before the device began it.
        queue_full: Whether consecutive calls waited for the device rather than for the host.
        slowdowns: Reasons for lowered clocks under load.
    """

    values: Mapping[str, Value]
    queued: bool = True
    queue_full: bool = True
    slowdowns: tuple[str, ...] = ()


def measure_device(
    subject: Subject, clock: DeviceClock, times: tuple[Value, Value], batch: int, *, has_setup: bool, gpu: Meter | None
) -> DeviceFacts:
    """Measure the device's own time and consecutive calls, after the rounds of a case were timed.

    Args:
        subject: The case.
        clock: Clock of its device.
        times: Latency and event latency in s.
        batch: Images per call.
        has_setup: Whether each call needs its own set-up, so that calls cannot be queued.
        gpu: Energy meter of the GPU, or None.
    """
    latency, event = times
    own = device_latency(subject, clock)
    values = {"event_latency": event}
    if own is not None:
        values |= {"device_latency": own, "device_busy": Value(own.value / event.value)}
    if has_setup:
        return DeviceFacts(values, queued=own is not None)
    queued, full = queued_latency(subject, clock, latency.value)
    values["queued_throughput"] = queued.scaled_inverse(batch)
    if gpu is None:
        return DeviceFacts(values, own is not None, full)
    load = read_load(subject.run, clock, gpu, queued.value)
    energy = None if load.energy is None else load.energy.scaled(1 / batch)
    readings = {"sm_clock": load.sm_clock, "power": load.power, "energy": energy}
    values |= {name: value for name, value in readings.items() if value is not None}
    return DeviceFacts(values, own is not None, full, load.slowdowns)


def device_latency(subject: Subject, clock: DeviceClock) -> Value | None:
    """Return the device seconds of one call that is fully queued, so that the device never waits for the host.

    The device is kept busy until the host has launched the whole call, with a delay found by trial. The time between
    events then includes neither launches nor gaps of the host.

    Returns:
        Median and interval; None if the call itself waits for the device, so that it cannot be queued.
    """
    delay = FIRST_DELAY
    rounds: list[list[float]] = []
    while len(rounds) < DEVICE_ROUNDS:
        subject.setup()
        seconds, queued = clock.read_behind(subject.run, delay)
        if queued:
            rounds.append([seconds])
        elif delay >= LONGEST_DELAY:
            return None
        else:
            delay *= DELAY_GROWTH
    return median_interval(rounds)


def queued_latency(subject: Subject, clock: DeviceClock, latency: float) -> tuple[Value, bool]:
    """Return the seconds per call of consecutive calls, and whether they waited for the device.

    Args:
        subject: Subject whose set-up does nothing.
        clock: Clock of its device.
        latency: Seconds of one synchronized call.

    Returns:
        Median and interval over several queues of calls, and whether the queue was full. If it was not, the host
        launched no faster than the device worked, so that the seconds are the host's.
    """
    calls = max(2, min(MOST_QUEUED, int(QUEUE_SECONDS / latency)))
    readings = [clock.read_queue(subject.run, calls) for _ in range(QUEUE_ROUNDS)]
    full = sum(reading.launched < FULL_QUEUE * reading.total for reading in readings)
    return median_interval([[reading.total / calls] for reading in readings]), 2 * full > len(readings)
