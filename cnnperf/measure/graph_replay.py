"""Device time of short calls: several are captured in one CUDA graph, whose replays are timed between events.

A synchronized call pays the host's 10 to 300 us, which is more than the kernels themselves take; a replay is launched
once for all its calls. The calls take sets of buffers in turn, which together are larger than the L2 cache, so that no
call finds its maps there. Source: https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, cast

import torch

from cnnperf.errors import UnsupportedCase
from cnnperf.measure.clock import Call, Reading

LEAST_REPLAY = 200e-6  # seconds: some hundred times what two events and the launch of a graph differ by
LEAST_SETS = 3
MOST_SETS = 64
MOST_CALLS = 4096
WARM_UP_CALLS = 3  # the first compiles, the second and third find libraries with their workspaces in place


class Rotating(Protocol):
    """Subject with several sets of buffers, of which each call takes one."""

    def setup(self) -> None:
        """Drop what the last call left."""

    def run(self) -> None:
        """Run one call on the present set."""

    def turn(self) -> None:
        """Go on to the next set."""


class Graph(Protocol):
    """Captured calls."""

    def replay(self) -> None:
        """Launch all of them."""


Capture = Callable[[Call], Graph]
"""From a function to the graph of what it launches."""


def sets_for(bytes_of_a_set: int, cache_bytes: int) -> int:
    """Return how many sets of buffers are twice as large as a cache, at least three."""
    return min(MOST_SETS, max(LEAST_SETS, math.ceil(2 * cache_bytes / bytes_of_a_set)))


def capture(function: Call) -> Graph:
    """Capture what a function launches, on a stream of its own after it has run there."""
    present = torch.cuda.current_stream()
    stream = torch.cuda.Stream()
    stream.wait_stream(present)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    present.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            function()
    finally:
        torch.cuda.set_stream(present)  # `torch.cuda.graph` leaves its own stream in place when a capture fails
    return graph


def reason_of(error: BaseException) -> str:
    """Return the first line of the error that came first.

    A call that fails during a capture makes the end of the capture fail too, and that second error only says that
    something failed before.
    """
    first = error
    while first.__cause__ or first.__context__:
        first = cast(BaseException, first.__cause__ or first.__context__)
    return next(iter(str(first).splitlines()), "") or type(first).__name__


class ReplayClock:
    """Clock of replays: seconds between events around one."""

    def __init__(self, device: torch.device) -> None:
        """Create the events on the device."""
        self._device = device
        self._start, self._stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._seconds = 0.0

    def now(self) -> float:
        """Return the device seconds of all replays so far."""
        return self._seconds

    def read(self, call: Call) -> Reading:
        """Replay once."""
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
        calls: In one replay, a multiple of the sets of buffers.
    """

    def __init__(self, name: str, subject: Rotating, sets: int, clock: ReplayClock, make: Capture = capture) -> None:
        """Capture as many calls as make a replay long enough.

        Args:
            name: Of the subject, for errors.
            subject: What is captured.
            sets: Number of its sets of buffers.
            clock: Of its device.
            make: Captures; tests give a scripted one.

        Raises:
            UnsupportedCase: If the calls cannot be captured, for instance because one waits for the device.
        """
        self.calls, most = sets, MOST_CALLS // sets * sets
        while True:
            try:
                self._graph = make(lambda: _run(subject, self.calls))
            except RuntimeError as error:
                raise UnsupportedCase(f"{name} cannot be captured into a CUDA graph: {reason_of(error)}") from error
            clock.read(self._graph.replay)
            seconds = clock.read(self._graph.replay).wall
            if seconds >= LEAST_REPLAY or self.calls >= most:
                return
            wanted = 1.5 * LEAST_REPLAY / seconds * self.calls
            self.calls = min(most, sets * math.ceil(wanted / sets))

    def setup(self) -> None:
        """Do nothing: what a call leaves is dropped within the graph."""

    def run(self) -> None:
        """Replay once."""
        self._graph.replay()

    def relocate(self) -> None:
        """Do nothing: a graph holds its addresses, and its calls take several sets of buffers as it is."""


def _run(subject: Rotating, calls: int) -> None:
    for _ in range(calls):
        subject.setup()
        subject.run()
        subject.turn()
