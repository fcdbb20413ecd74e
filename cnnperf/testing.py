"""Fakes for tests: a scripted clock, a subject whose calls take scripted times, and made histories of runs.

Nothing here looks at a real clock, so a test that uses it gives the same answer on any machine under any load.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from cnnperf.measure.case import PHASES, Case
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


@dataclass(frozen=True)
class MadeHistory:
    """Be a history of runs whose truth is known.

    Attributes:
        runs: How many, each of a commit of its own.
        cases: In each run.
        rounds: Raw ones of each case.
        spread: From run to run, as a standard deviation of logs.
        shift: From the middle of the history on, every case takes longer by this fraction.
        seed: Of everything.
        machines: That take turns.
        days: From run to run.
    """

    runs: int = 40
    cases: int = 6
    rounds: int = 20
    spread: float = 0.01
    shift: float = 0.0
    seed: int = 0
    machines: int = 1
    days: float = 1.0

    def write(self, folder: Path) -> None:
        """Write the run files, named `0001_made.json` and so on."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(self.runs):
            (folder / f"{number + 1:04}_made.json").write_text(json.dumps(self.document(number)), encoding="utf-8")

    def document(self, number: int) -> dict[str, Any]:
        """Return one run file as its JSON."""
        generator = random.Random(f"{self.seed} {number}")  # noqa: S311 - repeatable, not secret
        factor = 1 + self.shift if number >= self.runs // 2 else 1.0
        cases = [self._benchmark(case, factor, generator) for case in self._cases()]
        cpu = f"Made CPU {number % self.machines + 1}" if self.machines > 1 else "Made CPU"
        environment = {"cpu_model": cpu, "cpu_count": 2, "threads": 2, "torch": "2.13.0"}
        return {
            "machine_info": {"node": "made", "cpu": {"brand_raw": cpu}},
            "commit_info": {"id": f"{number + 1:08x}" * 5, "dirty": False},
            "datetime": (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number * self.days)).isoformat(),
            "benchmarks": cases,
            "cnnperf": {"schema": 1, "suite": "default", "planned": self.cases, "environment": environment},
        }

    def _cases(self) -> list[Case]:
        return [
            Case(f"network{index // len(PHASES)}", PHASES[index % len(PHASES)], batch=8) for index in range(self.cases)
        ]

    def _benchmark(self, case: Case, factor: float, generator: random.Random) -> dict[str, Any]:
        level = 1e-3 * (1 + len(case.label())) * factor * math.exp(generator.gauss(0, self.spread))
        data = sorted(level * math.exp(abs(generator.gauss(0, 0.01))) for _ in range(self.rounds))
        middle = data[len(data) // 2]
        metrics = {
            "latency": {"value": middle, "low": data[0], "high": data[-1], "rounds": self.rounds, "unit": "s"},
            "throughput": {
                "value": case.batch / middle,
                "low": case.batch / data[-1],
                "high": case.batch / data[0],
                "rounds": self.rounds,
                "unit": "images/s",
            },
            "peak_memory": {"value": 2.0**24, "unit": "B"},
            "parameters": {"value": 1e6, "unit": "1"},
            "flop": {"value": 1e9, "unit": "flop"},
        }
        return {
            "name": case.id(),
            "fullname": f"made::{case.id()}",
            "extra_info": {
                "cnnperf": 1,
                "axes": case.axes(),
                "metrics": metrics,
                "groups": [self.rounds],
                "findings": [],
            },
            "stats": {"median": middle, "rounds": self.rounds, "data": data},
        }
