"""Fakes for tests of measurements: a scripted clock, and a subject whose calls take scripted times.

Nothing here looks at a real clock, so a test that uses it gives the same answer on any machine under any load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat

from cnnperf.measure.clock import Call, Reading


class ScriptedClock:
    """Be a clock on which time passes only as the script says.

    Each call that is read takes the next scripted duration, plus whatever it spends in `sleep`.
    """

    def __init__(self, durations: Iterator[float] | list[float] | float) -> None:
        """Take seconds for successive calls; a single number stands for all calls, a list repeats its last.

        Args:
            durations: Seconds of each call.
        """
        if isinstance(durations, int | float):
            durations = [float(durations)]
        self._durations = chain(durations, repeat(durations[-1])) if isinstance(durations, list) else durations
        self._now = 0.0
        self._slept = 0.0

    def now(self) -> float:
        """Return the scripted time in seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let time pass inside a call without computing."""
        self._now += seconds
        self._slept += seconds

    def read(self, call: Call) -> Reading:
        """Run the call and return what the script says it took; sleeping takes no CPU time."""
        start, slept = self._now, self._slept
        call()
        self._now += next(self._durations)
        wall = self._now - start
        return Reading(wall, wall - (self._slept - slept))

    def read_queue(self, call: Call, calls: int) -> float:
        """Run several calls and return the scripted seconds of all."""
        return sum(self.read(call).wall for _ in range(calls))


@dataclass
class ScriptedSubject:
    """Be a subject that counts what is asked of it.

    Attributes:
        body: Run inside each timed call.
        events: `setup`, `run` and `relocate` in the order in which they happened.
    """

    body: Callable[[], None] = lambda: None
    events: list[str] = field(default_factory=list)

    def setup(self) -> None:
        """Note the set-up."""
        self.events.append("setup")

    def run(self) -> None:
        """Note the timed call and run the body."""
        self.events.append("run")
        self.body()

    def relocate(self) -> None:
        """Note the move."""
        self.events.append("relocate")
