"""Fakes for tests: a scripted clock, a subject whose calls take scripted times, made histories and made CUDA runs.

Nothing here looks at a real clock, so a test that uses it gives the same answer on any machine under any load.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from cnnperf.measure.clock import Call, Reading
from cnnperf.records.case import PHASES, Case
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, Run, Scalar
from cnnperf.records.writing import document_of, save_run

WORK = {"forward": 1, "backward": 2, "train": 3}
"""Work of each phase of a made run, in that of a forward pass."""

LAUNCH_BOUND = 0.7
"""Share of the event's seconds below which a made call on CUDA has the finding `launch-bound`."""


class ScriptedClock:
    """A clock on which time passes only as the script says.

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
    """A subject that counts what is asked of it.

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
    """A history of runs whose truth is known.

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
        return [
            Case(f"network{index // len(PHASES)}", PHASES[index % len(PHASES)], batch=8) for index in range(self.cases)
        ]

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
    """Made run of one machine with a CPU and a CUDA device, whose times follow a simple model.

    A forward call needs `seconds_an_image` on the CPU, training three times that, and a call on the device either over
    `gain`. The host needs `launch_seconds` at least for a call on the device. Nothing in it was measured.

    Attributes:
        devices: Measured devices; `("cuda",)` and `("cpu",)` are runs of one of them.
        architectures: Names of the networks.
        phases: Measured phases.
        batches: Measured batches; from three on they are a sweep.
        forms: Precision, layout and engine of the cases on CUDA. On the CPU they are measured where PyTorch has them.
        seconds_an_image: Of one image on the CPU.
        gain: CPU seconds over device seconds for a full device.
        launch_seconds: Host seconds that a call on CUDA takes at least.
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
        gpu: dict[str, Scalar] = {
            "gpu_model": self.gpu,
            "gpu_driver": "600.1",
            "gpu_power_limit_w": 700.0,
            "cudnn": 91002,
        }
        environment: dict[str, Scalar] = {
            "cpu_model": self.cpu,
            "cpu_count": 16,
            "threads": 16,
            "torch": "2.11.0",
            "cudnn_benchmark": False,
        }
        records = tuple(map(self.record, self.cases()))
        return Run(
            machine_info={"node": "made", "cpu": {"brand_raw": self.cpu}},
            commit_info={"id": "0123456789abcdef" * 2 + "01234567", "dirty": False},
            time=datetime(2026, 1, 1, tzinfo=UTC),
            suite="default",
            planned=len(records),
            environment=environment | (gpu if on_cuda else {"gpu_model": None}),
            cases=records,
        )

    def cases(self) -> list[Case]:
        """Return the cases in the order of measuring; the CPU has neither TF32 nor CUDA graphs."""
        return [
            Case(architecture, phase, device, engine, precision, layout, batch)
            for device in self.devices
            for architecture in self.architectures
            for phase in self.phases
            for batch in self.batches
            for precision, layout, engine in self.forms
            if device != "cpu" or (precision in {"fp32", "amp"} and engine in {"eager", "compile"})
        ]

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
        """Return the seconds of a case by metric: those of a call, and of copying its images to the device."""
        on_cpu = case.batch * self.seconds_an_image * WORK[case.phase] * (0.9 if case.engine == "compile" else 1.0)
        if case.device == "cpu":
            return {"latency": on_cpu}
        faster = {"conv_tf32": 2.0, "tf32": 3.0, "amp": 6.0}.get(case.precision, 1.0)
        device = on_cpu / (self.gain * faster)
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
