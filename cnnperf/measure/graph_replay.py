"""Device time of short calls: several are captured in one CUDA graph, and replays are timed between events.

A synchronized call includes 10 to 300 us of the host, more than the kernels themselves take. A replay is launched once
for all its calls. The calls use several sets of buffers in turn, which together exceed the L2 cache, so that no call
finds its maps there. Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch

from cnnperf.errors import UnsupportedCase
from cnnperf.measure.clock import Call, Reading

LEAST_REPLAY = 200e-6  # seconds: some hundred times the jitter of two events and the launch of a graph
LEAST_SETS = 3
MOST_SETS = 64
MOST_CALLS = 4096
WARM_UP_CALLS = 3  # the first compiles; libraries have their workspaces by the third


class Rotating(Protocol):
    """Subject with several sets of buffers, one for each call in turn."""

    def setup(self) -> None:
        """Drop the results of the last call."""

    def run(self) -> None:
        """Run one call on the current set."""

    def turn(self) -> None:
        """Select the next set."""


class Graph(Protocol):
    """Captured calls."""

    def replay(self) -> None:
        """Launch all captured calls."""


Capture = Callable[[Call], Graph]
"""Function that captures the launches of another function in a graph."""


def sets_for(bytes_of_a_set: int, cache_bytes: int) -> int:
    """Return the number of sets of buffers, from 3 to 64, that together are twice as large as a cache."""
    return min(MOST_SETS, max(LEAST_SETS, math.ceil(2 * cache_bytes / bytes_of_a_set)))


def capture(function: Call) -> Graph:
    """Capture the launches of a function, after warm-up calls on a stream of its own."""
    current = torch.cuda.current_stream()
    stream = torch.cuda.Stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    current.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            function()
    finally:
        torch.cuda.set_stream(current)  # `torch.cuda.graph` does not restore the stream when a capture fails
    return graph


def reason_of(error: BaseException) -> str:
    """Return the first line of the root cause of an error.

    A failed call also makes the end of the capture fail, and that second error does not name the cause.
    """
    first = error
    while first.__cause__ or first.__context__:
        first = cast(BaseException, first.__cause__ or first.__context__)
    return next(iter(str(first).splitlines()), "") or type(first).__name__


class ReplayClock:
    """Clock of replays: `wall` is device time by events, `cpu` is 0, and `now` advances only by replays."""

    def __init__(self, device: torch.device) -> None:
        """Create the events on the device."""
        self._device = device
        self._start, self._stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._seconds = 0.0

    def now(self) -> float:
        """Return the device seconds of all replays so far."""
        return self._seconds

    def read(self, call: Call) -> Reading:
        """Run a replay and return its seconds between events."""
        stream = torch.cuda.current_stream(self._device)
        torch.cuda.synchronize(self._device)
        self._start.record(stream)
        call()
        self._stop.record(stream)
        torch.cuda.synchronize(self._device)
        seconds = self._start.elapsed_time(self._stop) / 1e3
        self._seconds += seconds
        return Reading(seconds, 0.0, seconds)


class Replayed:
    """Subject whose round is a replay of several captured calls.

    Attributes:
        calls: Number of calls in a replay, a multiple of the number of sets of buffers.
    """

    def __init__(self, name: str, subject: Rotating, sets: int, clock: ReplayClock, make: Capture = capture) -> None:
        """Capture enough calls for a replay of at least `LEAST_REPLAY` seconds, up to `MOST_CALLS`.

        Args:
            name: Name of the subject, for errors.
            subject: Subject whose calls are captured.
            sets: Number of its sets of buffers.
            clock: Clock of its device.
            make: Capture function; tests pass a scripted one.

        Raises:
            UnsupportedCase: If the calls cannot be captured, for instance because one waits for the device.
        """
        self.calls, most = sets, MOST_CALLS // sets * sets
        while True:
            try:
                self._graph = make(lambda: _run(subject, self.calls))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise UnsupportedCase(f"{name} cannot be captured into a CUDA graph: {reason_of(error)}") from error
            clock.read(self._graph.replay)
            seconds = clock.read(self._graph.replay).wall
            if seconds >= LEAST_REPLAY or self.calls >= most:
                return
            enough = 1.5 * LEAST_REPLAY / seconds * self.calls
            self.calls = min(most, sets * math.ceil(enough / sets))

    def setup(self) -> None:
        """Do nothing: the graph drops the results of each call."""

    def run(self) -> None:
        """Replay once."""
        self._graph.replay()

    def relocate(self) -> None:
        """Do nothing: a graph holds addresses, and its calls use several sets of buffers anyway."""


def _run(subject: Rotating, calls: int) -> None:
    for _ in range(calls):
        subject.setup()
        subject.run()
        subject.turn()
