"""Fakes for tests: a scripted clock and subject, and generated histories and CUDA runs.

No fake reads a real clock, so that a test gives the same result on any machine under any load.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any

from cnnperf.measure.clock import Call, Reading
from cnnperf.records.case import PHASES, Case
from cnnperf.records.finding import Finding
from cnnperf.records.machine import Scalar
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, Run
from cnnperf.records.writing import document_of, save_run

WORK = {"forward": 1, "backward": 2, "train": 3}
"""Work of each phase of a generated run, relative to a forward pass."""

LAUNCH_BOUND = 0.7
"""A generated call on CUDA has the finding `launch-bound` if device time over event time is below this."""


class ScriptedClock:
    """A clock on which time passes only by a script.

    Each call that is read takes the next scripted duration, plus the seconds that it spends in `sleep`.
    """

    def __init__(self, durations: Iterator[float] | list[float] | float) -> None:
        """Set the script.

        Args:
            durations: Seconds of successive calls. The last value of a list repeats; a number holds for all calls.
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
        """Let wall time pass inside a call, but no CPU time."""
        self._now += seconds
        self._slept += seconds

    def read(self, call: Call) -> Reading:
        """Run the call and return its scripted wall and CPU seconds."""
        start, slept = self._now, self._slept
        call()
        self._now += next(self._durations)
        wall = self._now - start
        return Reading(wall, wall - (self._slept - slept))


@dataclass
class ScriptedSubject:
    """A subject that records its calls.

    Attributes:
        body: Function to call inside each timed call.
        events: Names of the calls in their order: `setup`, `run` and `relocate`.
    """

    body: Callable[[], None] = lambda: None
    events: list[str] = field(default_factory=list)

    def setup(self) -> None:
        """Record the set-up."""
        self.events.append("setup")

    def run(self) -> None:
        """Record the timed call and call the body."""
        self.events.append("run")
        self.body()

    def relocate(self) -> None:
        """Record the relocation."""
        self.events.append("relocate")


@dataclass(frozen=True)
class MadeHistory:
    """A generated history of runs with a known level shift.

    Attributes:
        runs: Number of runs, each of another commit.
        cases: Number of cases in each run.
        rounds: Number of raw rounds of each case.
        spread: Spread between runs, as the standard deviation of log seconds.
        shift: Relative slowdown of every case from the middle of the history on.
        seed: Seed of all random numbers.
        machines: Number of machines, which alternate.
        days: Days between two runs.
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
        for number in range(self.runs):
            save_run(folder / f"{number + 1:04}_made.json", self.run(number))

    def document(self, number: int) -> dict[str, Any]:
        """Return one run file as its JSON."""
        return document_of(self.run(number))

    def run(self, number: int) -> Run:
        """Return the record of one run."""
        generator = random.Random(f"{self.seed} {number}")  # noqa: S311 - repeatable, not secret
        factor = 1 + self.shift if number >= self.runs // 2 else 1.0
        cpu = f"Made CPU {number % self.machines + 1}" if self.machines > 1 else "Made CPU"
        return Run(
            machine_info={"node": "made", "cpu": {"brand_raw": cpu}},
            commit_info={"id": f"{number + 1:08x}" * 5, "dirty": False},
            time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number * self.days),
            suite="default",
            planned=self.cases,
            environment={"cpu_model": cpu, "cpu_count": 2, "threads": 2, "torch": "2.13.0"},
            cases=tuple(self._record(case, factor, generator) for case in self._cases()),
        )

    def _cases(self) -> list[Case]:
        phases = len(PHASES)
        return [Case(f"network{index // phases}", PHASES[index % phases], batch=8) for index in range(self.cases)]

    def _record(self, case: Case, factor: float, generator: random.Random) -> CaseRecord:
        level = 1e-3 * (1 + len(case.label())) * factor * math.exp(generator.gauss(0, self.spread))
        data = sorted(level * math.exp(abs(generator.gauss(0, 0.01))) for _ in range(self.rounds))
        latency = Value(data[len(data) // 2], data[0], data[-1], self.rounds)
        values = {
            "latency": latency,
            "throughput": latency.scaled_inverse(case.batch),
            "peak_memory": Value(2.0**24),
            "parameters": Value(1e6),
            "flop": Value(1e9),
        }
        return CaseRecord(case, with_units(values), Rounds([data]), test=f"made::{case.id()}")


@dataclass(frozen=True)
class MadeDevices:
    """A generated run of one machine with a CPU and a CUDA device, whose times follow a simple model.

    A forward pass takes `seconds_an_image` per image on the CPU, a training step three times that. The device takes
    the same time divided by `gain`. A call on the device takes at least `launch_seconds` on the host. Nothing in the
    run was measured.

    Attributes:
        devices: Devices of the run: `cpu`, `cuda` or both.
        architectures: Names of the networks.
        phases: Phases of the run.
        batches: Batches of the run; three or more are a sweep.
        forms: Precision, layout and engine of the cases on CUDA. The CPU has those of them that PyTorch supports.
        seconds_an_image: Seconds of a forward pass of one image on the CPU.
        gain: CPU seconds over device seconds for a full device.
        launch_seconds: Least host seconds of a call on CUDA.
        half_width: Relative half-width of every interval.
        cpu: Model of the CPU.
        gpu: Model of the GPU.
    """

    devices: tuple[str, ...] = ("cpu", "cuda")
    architectures: tuple[str, ...] = ("resnet18",)
    phases: tuple[str, ...] = ("forward",)
    batches: tuple[int, ...] = (4, 64, 512)
    forms: tuple[tuple[str, str, str], ...] = (
        ("fp32", "contiguous", "eager"),
        ("fp32", "contiguous", "compile"),
        ("conv_tf32", "contiguous", "eager"),
        ("tf32", "channels_last", "compile"),
        ("amp", "channels_last", "cudagraphs"),
    )
    seconds_an_image: float = 10e-3
    gain: float = 200.0
    launch_seconds: float = 1e-3
    half_width: float = 0.02
    cpu: str = "Made CPU"
    gpu: str = "Made GPU"

    def document(self) -> dict[str, Any]:
        """Return the run file as its JSON."""
        return document_of(self.run())

    def run(self) -> Run:
        """Return the record of the run."""
        on_cuda = any(device != "cpu" for device in self.devices)
        environment: dict[str, Scalar] = {
            "cpu_model": self.cpu,
            "cpu_count": 16,
            "threads": 16,
            "torch": "2.11.0",
            "cudnn_benchmark": False,
            "gpu_model": self.gpu if on_cuda else None,
        }
        if on_cuda:
            environment |= {"gpu_driver": "600.1", "gpu_power_limit_w": 700.0, "cudnn": 91002}
        records = tuple(map(self.record, self.cases()))
        return Run(
            machine_info={"node": "made", "cpu": {"brand_raw": self.cpu}},
            commit_info={"id": "0123456789abcdef" * 2 + "01234567", "dirty": False},
            time=datetime(2026, 1, 1, tzinfo=UTC),
            suite="default",
            planned=len(records),
            environment=environment,
            cases=records,
        )

    def cases(self) -> list[Case]:
        """Return the cases in the order of measuring; the CPU has neither TF32 nor CUDA graphs."""
        cases = []
        axes = product(self.devices, self.architectures, self.phases, self.batches, self.forms)
        for device, architecture, phase, batch, (precision, layout, engine) in axes:
            if device != "cpu" or (precision in {"fp32", "amp"} and engine in {"eager", "compile"}):
                cases.append(Case(architecture, phase, device, engine, precision, layout, batch))
        return cases

    def record(self, case: Case) -> CaseRecord:
        """Return the record of a case."""
        seconds = self.seconds(case)
        wall, event = seconds["latency"], seconds.get("event_latency", seconds["latency"])
        values = {name: self._value(value) for name, value in seconds.items()}
        values["throughput"] = self._value(case.batch / wall)
        values["peak_memory"] = Value(2.0**20 * (50 + case.batch))
        values["energy"] = self._value((60 if case.device == "cpu" else 350) * event / case.batch)
        findings: tuple[Finding, ...] = ()
        if case.device != "cpu":
            busy = seconds["device_latency"] / event
            findings = (_launch_bound(busy),) if busy < LAUNCH_BOUND else ()
            values["queued_throughput"] = self._value(case.batch / event)
            values["device_busy"] = self._value(busy)
            values |= {"sm_clock": self._value(1.755e9), "power": self._value(350.0)}
        return CaseRecord(case, with_units(values), findings=findings, test=f"made::{case.id()}")

    def seconds(self, case: Case) -> dict[str, float]:
        """Return the seconds of a call of a case, and of copying its images to the device, by metric."""
        on_cpu = case.batch * self.seconds_an_image * WORK[case.phase] * (0.9 if case.engine == "compile" else 1.0)
        if case.device == "cpu":
            return {"latency": on_cpu}
        speedup = {"conv_tf32": 2.0, "tf32": 3.0, "amp": 6.0}.get(case.precision, 1.0)
        device = on_cpu / (self.gain * speedup)
        event = max(device, 0.9 * self.launch_seconds)
        copy = case.batch * 3 * case.image_size**2 * 4 / 20e9
        return {
            "latency": event + 0.1 * self.launch_seconds,
            "event_latency": event,
            "device_latency": device,
            "copy_pinned": copy,
            "copy_pageable": 3 * copy,
        }

    def _value(self, value: float) -> Value:
        return Value(value, value * (1 - self.half_width), value * (1 + self.half_width), 30)


def _launch_bound(busy: float) -> Finding:
    return Finding(
        "launch-bound",
        f"the device computed during {busy:.0%} of the call",
        "the time is that of launching kernels, not of computing",
        "use a larger batch",
    )
