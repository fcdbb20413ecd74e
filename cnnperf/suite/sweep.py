"""A sweep: cases that differ in one number, measured one after the other until there is nothing more to learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, groupby, takewhile

from cnnperf.errors import CnnperfError, OptionError, OutOfMemory, UnsupportedCase
from cnnperf.measure.exhaustion import release_caches
from cnnperf.measure.images import CHANNELS
from cnnperf.measure.memory_forecast import Forecast
from cnnperf.measure.support import cpu_cores
from cnnperf.models.architecture import Architecture
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.runs.sweeps import EFFICIENCY, STEP, knee_of
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.plan import Plan, thread_counts
from cnnperf.units import format_percent

WIDTHS = (16, 32, 64, 128)
RESOLUTION = 32  # the largest batch that fits is found to one part in so many
MOST_WRONG = 2  # results on end
ORIGIN = "cnnperf sweep"
ENDS = {
    "memory": "with the memory",
    "unsupported": "with a case that this machine cannot run",
    "wrong": "with two wrong results",
}
"""How a line may end before its last value."""


@dataclass(frozen=True)
class Sweep:
    """Parameters of a sweep.

    Attributes:
        architecture: Of all cases.
        axis: That differs: `batch`, `threads`, `image_size` or `width`.
        values: Of it, rising; none to double the batch from 1 on.
        phases: Each a sweep of its own.
        devices: Each a sweep of its own.
        engines: Side by side at each value.
        precision: Of all cases.
        batch: Of sweeps over another axis; None for the one of the suite.
        step: The batch is doubled until that brings less than this gain of throughput.
        most: No larger batch is measured; None for as large as there is memory.
        to_memory: Look for the largest batch that fits also where the knee comes before the end of memory.
    """

    architecture: Architecture
    axis: str
    values: tuple[int, ...] = ()
    phases: tuple[str, ...] = ("forward", "train")
    devices: tuple[str, ...] = ("cpu",)
    engines: tuple[str, ...] = ("eager",)
    precision: str = "fp32"
    batch: int | None = None
    step: float = STEP
    most: int | None = None
    to_memory: bool = False

    def groups(self) -> list[list[Case]]:
        """Return the first case of each line, those together that differ in the engine alone.

        Raises:
            OptionError: If the architecture does not take a value, or there are more threads than cores.
        """
        if self.axis == "threads" and (self.values[-1] > (cores := cpu_cores()) or self.devices != ("cpu",)):
            raise OptionError(f"--over threads takes 1 to {cores} threads, the cores of this machine's CPU, and no GPU")
        if self.axis == "image_size" and self.architecture.fixed_image_size:
            size = self.architecture.image_size
            raise OptionError(f"{self.architecture.name} takes images of {size} x {size} only; sweep over the batch")
        fixed = {"phase": self.phases, "engine": self.engines, "precision": (self.precision,)}
        fixed |= {} if self.batch is None else {"batch": (self.batch,)}  # type: ignore[dict-item]  # values of an axis
        cases = Plan("sweep", self.devices, {**fixed, self.axis: self.values or (1,)}).cases(self.architecture)
        return [_firsts(list(group)) for _, group in groupby(sorted(cases, key=self._order), key=self._order)]

    def all_values(self) -> Iterator[int]:
        """Return the values in rising order, without an end where the batch is doubled as long as there is memory."""
        values = iter(self.values) if self.values else (2**power for power in count())
        return takewhile(lambda value: self.most is None or value <= self.most, values)

    def _order(self, case: Case) -> tuple[int, int]:
        return self.devices.index(case.device), self.phases.index(case.phase)


def default_values(axis: str, architecture: Architecture) -> tuple[int, ...]:
    """Return the values that an axis is swept over unless others are asked for; none to double the batch."""
    values = {
        "threads": thread_counts(cpu_cores()),
        "image_size": tuple(architecture.image_size * factor // 2 for factor in (1, 2, 4, 8)),
        "width": WIDTHS,
    }
    return values.get(axis, ())


class Foreseen(OutOfMemory):
    """A case that was not tried, because memory would end in it."""


@dataclass
class Line:
    """Measured values of one line of a sweep.

    Attributes:
        first: Its first case.
        values: Measured values by value of the axis.
        end: Why it does not go on, of `ENDS`; empty where it may.
        wrong: How many results on end were wrong.
        over: For which value the CPU's allocator had no memory, where it came to that.
    """

    first: Case
    values: dict[int, Mapping[str, Value]] = field(default_factory=dict)
    end: str = ""
    wrong: int = 0
    over: int | None = None

    def throughputs(self) -> list[tuple[int, Value]]:
        """Return the images/s of each value."""
        return [(value, values["throughput"]) for value, values in self.values.items()]


class SweepRunner:
    """Measurement of a sweep in a benchmark run."""

    def __init__(
        self, sweep: Sweep, session: BenchRun, write: Callable[[str], None], forecast: Forecast | None = None
    ) -> None:
        """Get ready.

        Args:
            sweep: What is swept.
            session: Measures and keeps the cases.
            write: Is told of the progress, with the ends of lines.
            forecast: Foresees the end of the CPU's memory.
        """
        self._sweep, self._session, self._write = sweep, session, write
        self._forecast = forecast or Forecast()
        self.wrong = False

    def run(self) -> None:
        """Measure all lines."""
        for firsts in self._sweep.groups():
            lines = [Line(first) for first in firsts]
            self._walk(lines)
            for line in lines:
                if self._sweep.axis in AFTERWARDS:
                    self._follow_up(line, AFTERWARDS[self._sweep.axis])

    def _follow_up(self, line: Line, follow: Callable[[SweepRunner, Line], None]) -> None:
        """Do what is done with a line that was measured; where that fails, what was measured stands."""
        try:
            follow(self, line)
        except UnsupportedCase as reason:
            self._write(f"not measured: {reason}\n")
        except CnnperfError as reason:
            self.wrong = True
            self._write(f"not measured: {reason}\n")

    def _walk(self, lines: list[Line]) -> None:
        """Take each value for all engines before the next, so that their ratio is of one time."""
        for value in self._sweep.all_values():
            for line in lines:
                (self._pass_over if line.end else self._measure)(line, value)
            if not self._sweep.values and all(line.end or self._beyond_knee(line) for line in lines):
                return

    def _pass_over(self, line: Line, value: int) -> None:
        """Say of a value that was asked for that the line ended before it."""
        if self._sweep.values:
            self._session.skip(self._case(line, value), f"not tried: the sweep ended before, {ENDS[line.end]}")

    def _case(self, line: Line, value: int) -> Case:
        return line.first.replace(**{self._sweep.axis: value})

    def _beyond_knee(self, line: Line) -> bool:
        """Return whether two doublings beyond the knee were measured, so that it is no dip."""
        rates = line.throughputs()
        knee = knee_of(rates, self._sweep.step)
        return knee is not None and knee.batch < rates[-2][0]

    def _measure(self, line: Line, value: int) -> None:
        case = self._case(line, value)
        self._write(self._session.announce(case))
        try:
            line.values[value], told = self._measured(case)
            line.wrong = 0
        except UnsupportedCase as reason:
            line.end = "memory" if isinstance(reason, OutOfMemory) else "unsupported"
            if case.device_type == "cpu" and line.end == "memory" and not isinstance(reason, Foreseen):
                line.over = value
            told = self._skipped(case, reason)
        except CnnperfError as reason:  # one batch may be wrong and the next right
            line.wrong += 1
            line.end = "wrong" if line.wrong == MOST_WRONG else ""
            self.wrong, told = True, self._skipped(case, reason)
        self._write(f"{told}\n")
        if line.end == "memory":
            release_caches(case)

    def _skipped(self, case: Case, reason: CnnperfError) -> str:
        self._session.skip(case, str(reason))
        return f"not measured: {str(reason).splitlines()[0]}"

    def _measured(self, case: Case) -> tuple[Mapping[str, Value], str]:
        if case.device_type == "cpu" and (refusal := self._forecast.refusal(case)):
            raise Foreseen(refusal)
        measured = self._session.measure(case)
        self._forecast.learn(case, measured.values["peak_memory"].value)
        return measured.values, self._session.keep(measured, f"{ORIGIN}::{case.id()}")

    def pair_threads(self, line: Line) -> None:
        """Measure the efficiency of threads side by side, where nothing is compiled."""
        if line.first.engine != "eager" or not {1} < set(line.values):
            return
        self._write("side by side ")
        found = self._session.laboratory.thread_efficiencies({value: self._case(line, value) for value in line.values})
        for threads, value in found.items():
            self._session.amend(self._case(line, threads), {EFFICIENCY: value})
        told = (f"{threads}: {format_percent(value.value)}" for threads, value in found.items())
        self._write(f"efficiency of threads {', '.join(told)}\n")

    def find_largest(self, line: Line) -> None:
        """Try or foresee larger batches up to the end of memory, and note the largest beside the last one measured."""
        on_cpu = line.first.device_type == "cpu"
        wanted = line.end == "memory" or self._sweep.to_memory
        if not (line.values and wanted) or (on_cpu and self._forecast.blind):
            return
        fits = self._forecast.fits if on_cpu else self._tried

        def below(case: Case) -> bool:
            return (line.over is None or case.batch < line.over) and fits(case)

        largest = largest_batch(line.first, max(line.values), below)
        self._session.amend(self._case(line, max(line.values)), {"largest_batch": largest})
        self._write(f"largest batch that fits: {largest.value:.0f}\n")

    def _tried(self, case: Case) -> bool:
        """A batch is drawn in the memory of the CPU first, which may end before that of the GPU."""
        images = 4.0 * case.batch * CHANNELS * case.image_size**2
        return self._forecast.holds(2 * images) and self._session.laboratory.fits(case)


AFTERWARDS: Mapping[str, Callable[[SweepRunner, Line], None]] = {
    "batch": SweepRunner.find_largest,
    "threads": SweepRunner.pair_threads,
}
"""What is done with a line once its values are measured, by axis."""


def largest_batch(case: Case, known: int, fits: Callable[[Case], bool]) -> Value:
    """Return the largest batch that fits, and up to where it is not known whether one does.

    Args:
        case: All but the batch.
        known: A batch that fits.
        fits: Tells it of a case; a larger batch never fits where a smaller one does not.
    """
    low, high = known, 2 * known
    while fits(case.replace(batch=high)):
        low, high = high, 2 * high
    while high - low > max(1, low // RESOLUTION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(case.replace(batch=middle)) else (low, middle)
    return Value(float(low), float(low), float(high - 1))


def _firsts(cases: list[Case]) -> list[Case]:
    """Return one case an engine, the one with the largest batch, which fills its device."""
    by_engine = {case.engine: case for case in sorted(cases, key=lambda case: case.batch)}
    return [by_engine[engine] for engine in dict.fromkeys(case.engine for case in cases)]
