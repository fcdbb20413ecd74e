"""What only a CUDA device has: the time that it needs itself, and the throughput of calls that follow one another.

Neither uses the profiler: CUPTI stays attached after the first profile and slows what is timed later
(https://github.com/pytorch/pytorch/issues/144455), and kernels at the start of a profile can be lost.
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
LONGEST_DELAY = 1 << 31  # about a second; a call that takes the host longer than that waits for the device itself
DELAY_GROWTH = 4
DEVICE_ROUNDS = 9  # the first count whose 95 % interval leaves out the highest and the lowest
QUEUE_SECONDS = 0.05
QUEUE_ROUNDS = 9
MOST_QUEUED = 100
FULL_QUEUE = 0.9
"""Share of the whole time up to which the host is done with launching where the queue was full."""


class DeviceClock(LoadClock, Protocol):
    """Clock of a device that works on calls while the host goes on."""

    def read_behind(self, call: Call, delay: int) -> tuple[float, bool]:
        """Give the device a call while it is kept busy for `delay` cycles.

        Returns:
            Seconds on the device, and whether the host had given the whole call before the device began.
        """


class Subject(Protocol):
    """What is timed: a set-up, which is not, and a call."""

    def setup(self) -> None:
        """Prepare one call."""

    def run(self) -> None:
        """Run it."""


@dataclass(frozen=True)
class DeviceFacts:
    """What was found of a case on its device.

    Attributes:
        values: By name of their metric.
        queued: Whether a whole call could be given to the device before it began.
        queue_full: Whether calls that follow one another waited for the device rather than for the host.
        slowdowns: Reasons for lowered clocks under load.
    """

    values: Mapping[str, Value]
    queued: bool = True
    queue_full: bool = True
    slowdowns: tuple[str, ...] = ()


def measure_device(
    subject: Subject, clock: DeviceClock, times: tuple[Value, Value], batch: int, *, has_setup: bool, gpu: Meter | None
) -> DeviceFacts:
    """Measure what only a device has, after the rounds of a case were timed.

    Args:
        subject: The case.
        clock: Of its device.
        times: Latency and event latency in s.
        batch: Images in a call.
        has_setup: Whether each call needs a set-up of its own, so that none can follow another at once.
        gpu: What counts energy, or None.
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
    told = {"sm_clock": load.sm_clock, "power": load.power, "energy": energy}
    values |= {name: value for name, value in told.items() if value is not None}
    return DeviceFacts(values, own is not None, full, load.slowdowns)


def device_latency(subject: Subject, clock: DeviceClock) -> Value | None:
    """Return the seconds that the device needs for one call whose work is all in its queue, so that it never waits.

    The device is kept busy until the host has given it the whole call; how long that must be is found by trying. Time
    between events then has neither the launches nor the host's gaps in it.

    Returns:
        Median and interval, or None where the call itself waits for the device, so that nothing can be queued.
    """
    delay = FIRST_DELAY
    rounds: list[list[float]] = []
    while len(rounds) < DEVICE_ROUNDS:
        subject.setup()
        seconds, behind = clock.read_behind(subject.run, delay)
        if behind:
            rounds.append([seconds])
        elif delay >= LONGEST_DELAY:
            return None
        else:
            delay *= DELAY_GROWTH
    return median_interval(rounds)


def queued_latency(subject: Subject, clock: DeviceClock, latency: float) -> tuple[Value, bool]:
    """Return seconds a call where calls follow one another, and whether the device was what they waited for.

    Args:
        subject: Whose set-up does nothing.
        clock: Of its device.
        latency: Seconds of one synchronized call.

    Returns:
        Median and interval over several such queues; and False where the host launched no faster than the device
        worked, so that the seconds are the host's.
    """
    calls = max(2, min(MOST_QUEUED, int(QUEUE_SECONDS / latency)))
    readings = [clock.read_queue(subject.run, calls) for _ in range(QUEUE_ROUNDS)]
    full = sum(reading.launched < FULL_QUEUE * reading.total for reading in readings)
    return median_interval([[reading.total / calls] for reading in readings]), 2 * full > len(readings)
