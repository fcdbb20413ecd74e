"""A sweep: cases that differ in one number, measured until the knee, the last value or the end of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, groupby, takewhile

from cnnperf.errors import CnnperfError, NetworkFailed, OptionError, OutOfMemory, UnsupportedCase
from cnnperf.measure.exhaustion import release_caches
from cnnperf.measure.images import CHANNELS
from cnnperf.measure.memory_forecast import Forecast
from cnnperf.measure.support import cpu_cores
from cnnperf.models.architecture import Architecture
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.runs.sweeps import EFFICIENCY, STEP, knee_of
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.blocks import Block
from cnnperf.suite.plan import Plan, thread_counts
from cnnperf.units import format_percent

WIDTHS = (16, 32, 64, 128)
RESOLUTION = 32  # the largest batch that fits is found to one part in 32
FLOAT_BYTES = 4.0
MOST_WRONG = 2  # consecutive wrong results that end a line
ORIGIN = "cnnperf sweep"
ENDS = {
    "memory": "with the memory",
    "unsupported": "with a case that this machine cannot run",
    "wrong": "with two wrong results",
}
"""Key of a reason to end a line before its last value, to its text."""


@dataclass(frozen=True)
class Sweep:
    """Parameters of a sweep.

    Attributes:
        architecture: Network of all cases.
        axis: Axis to vary: `batch`, `threads`, `image_size` or `width`.
        values: Values of the axis, ascending; empty to double the batch from 1.
        phases: Phases; each is a line of its own.
        devices: Devices; each is a line of its own.
        engines: Engines, measured side by side at each value.
        precision: Precision of all cases.
        batch: Batch of sweeps over another axis; None for that of the suite.
        step: Relative gain of throughput below which doubling the batch stops.
        most: Largest batch to measure; None for no limit but memory.
        to_memory: Whether to look for the largest batch that fits even if the knee comes before the end of memory.
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
        """Return the templates of the lines, grouped by device and phase; a group has one for each engine.

        Raises:
            OptionError: If the architecture does not accept a value, or there are more threads than cores.
        """
        if self.axis == "threads" and (self.values[-1] > (cores := cpu_cores()) or self.devices != ("cpu",)):
            raise OptionError(f"--over threads takes 1 to {cores} threads, the cores of this machine's CPU, and no GPU")
        if self.axis == "image_size" and self.architecture.fixed_image_size:
            size = self.architecture.image_size
            raise OptionError(f"{self.architecture.name} takes images of {size} x {size} only; sweep over the batch")
        fixed = {"phase": self.phases, "engine": self.engines, "precision": (self.precision,)}
        fixed |= {} if self.batch is None else {"batch": (self.batch,)}  # type: ignore[dict-item]  # values of an axis
        cases = Plan("sweep", self.devices, {**fixed, self.axis: self.values or (1,)}).cases(self.architecture)
        return [_templates(list(group)) for _, group in groupby(sorted(cases, key=self._order), key=self._order)]

    def all_values(self) -> Iterator[int]:
        """Return the values in ascending order; without an end if the batch is doubled until memory ends."""
        values = iter(self.values) if self.values else (2**power for power in count())
        return takewhile(lambda value: self.most is None or value <= self.most, values)

    def _order(self, case: Case) -> tuple[int, int]:
        return self.devices.index(case.device), self.phases.index(case.phase)


def default_values(axis: str, architecture: Architecture) -> tuple[int, ...]:
    """Return the default values of an axis; empty to double the batch."""
    values = {
        "threads": thread_counts(cpu_cores()),
        "image_size": tuple(architecture.image_size * factor // 2 for factor in (1, 2, 4, 8)),
        "width": WIDTHS,
    }
    return values.get(axis, ())


class ForecastOutOfMemory(OutOfMemory):
    """A case that was not tried, because it is predicted to exceed the memory."""


@dataclass
class Line:
    """Measured values of one line of a sweep.

    Attributes:
        template: Case on which the values of the axis are set.
        values: Metrics by value of the axis.
        end: Key of `ENDS`; empty while the line goes on.
        wrong: Number of consecutive wrong results.
        failed: Value for which the CPU's allocator had no memory, or None.
    """

    template: Case
    values: dict[int, Mapping[str, Value]] = field(default_factory=dict)
    end: str = ""
    wrong: int = 0
    failed: int | None = None

    def throughputs(self) -> list[tuple[int, Value]]:
        """Return the images/s of each value."""
        return [(value, values["throughput"]) for value, values in self.values.items()]


class SweepRunner:
    """Measurement of a sweep in a benchmark run."""

    def __init__(
        self, sweep: Sweep, run: BenchRun, write: Callable[[str], None], forecast: Forecast | None = None
    ) -> None:
        """Prepare the sweep.

        Args:
            sweep: Parameters of the sweep.
            run: Benchmark run that measures and keeps the cases.
            write: Receives progress text, line ends included.
            forecast: Prediction of the CPU memory that a case needs.
        """
        self._sweep, self._run, self._write = sweep, run, write
        run.runner.one_by_one = True  # memory may not hold the cases of two blocks
        self._forecast = forecast or Forecast()
        self.wrong = False

    def run(self) -> None:
        """Measure all lines."""
        for templates in self._sweep.groups():
            lines = [Line(template) for template in templates]
            self._walk(lines)
            for line in lines:
                if self._sweep.axis in FOLLOW_UPS:
                    self._follow_up(line, FOLLOW_UPS[self._sweep.axis])

    def _follow_up(self, line: Line, follow: Callable[[SweepRunner, Line], None]) -> None:
        """Run the follow-up of a measured line; if it fails, the measured values stay."""
        try:
            follow(self, line)
        except UnsupportedCase as reason:
            self._write(f"not measured: {reason}\n")
        except CnnperfError as reason:
            self.wrong = True
            self._write(f"not measured: {reason}\n")

    def _walk(self, lines: list[Line]) -> None:
        """Measure each value with all engines side by side before the next value.

        The values of a line are no block: no ratio between two of them is shown but the gain by doubling the batch,
        whose values are not known in advance, and the efficiency of threads, for which `pair_threads` pairs them.
        """
        for value in self._sweep.all_values():
            self._put_together([self._case(line, value) for line in lines if not line.end])
            for line in lines:
                (self._pass_over if line.end else self._measure)(line, value)
            if not self._sweep.values and all(line.end or self._beyond_knee(line) for line in lines):
                return

    def _put_together(self, cases: list[Case]) -> None:
        """Make the cases of one value a block, without those that memory does not hold beside the others."""
        fitting = [case for case in cases if not self._refusal(case)]
        together = fitting if fitting and not self._refusal(fitting[0], len(fitting)) else []
        alone = [[case] for case in cases if case not in together]
        for members in (together, *alone):
            if members:
                tests = {case: f"{ORIGIN}::{case.id()}" for case in members}
                name = (
                    f"{ORIGIN}[{members[0].replace(engine='eager').id()}]"  # devices are measured one after the other
                )
                self._run.runner.add(Block(name, tuple(members), tests))

    def _refusal(self, case: Case, members: int = 1) -> str:
        """Return why RAM would not hold so many engines of a case; empty if it does, or the case runs on a GPU."""
        return self._forecast.refusal(case, members) if case.device_type == "cpu" else ""

    def _pass_over(self, line: Line, value: int) -> None:
        """Record that a line ended before a requested value."""
        if self._sweep.values:
            self._run.skip(self._case(line, value), f"not tried: the sweep ended before, {ENDS[line.end]}")

    def _case(self, line: Line, value: int) -> Case:
        return line.template.replace(**{self._sweep.axis: value})

    def _beyond_knee(self, line: Line) -> bool:
        """Return whether two doublings beyond the knee were measured, which shows that it is no dip."""
        rates = line.throughputs()
        knee = knee_of(rates, self._sweep.step)
        return knee is not None and knee.batch < rates[-2][0]

    def _measure(self, line: Line, value: int) -> None:
        case = self._case(line, value)
        self._write(self._run.announce(case))
        try:
            line.values[value], text = self._measured(case)
            line.wrong = 0
        except UnsupportedCase as reason:
            line.end = "memory" if isinstance(reason, OutOfMemory) else "unsupported"
            if case.device_type == "cpu" and line.end == "memory" and not isinstance(reason, ForecastOutOfMemory):
                line.failed = value
            text = self._skipped(case, reason)
        except CnnperfError as reason:  # one batch may be wrong and the next right
            line.wrong += 1
            line.end = "wrong" if line.wrong == MOST_WRONG else ""
            self.wrong |= not isinstance(reason, NetworkFailed)
            text = self._skipped(case, reason)
        self._write(f"{text}\n")
        if line.end == "memory":
            release_caches(case)

    def _skipped(self, case: Case, reason: CnnperfError) -> str:
        self._run.skip(case, str(reason), failed=isinstance(reason, NetworkFailed))
        return f"not measured: {str(reason).splitlines()[0]}"

    def _measured(self, case: Case) -> tuple[Mapping[str, Value], str]:
        block = self._run.runner.block_of(case)
        if self._run.runner.measures_now(case) and (refusal := self._refusal(case)):
            raise ForecastOutOfMemory(refusal)
        measured = self._run.measure(case)
        self._forecast.learn(case, measured.values["peak_memory"].value, len(block.cases))
        return measured.values, self._run.keep(measured, block.tests[case])

    def pair_threads(self, line: Line) -> None:
        """Measure the efficiency of threads side by side, where nothing is compiled."""
        if line.template.engine != "eager" or not {1} < set(line.values):
            return
        self._write("side by side ")
        cases = {value: self._case(line, value) for value in line.values}
        efficiencies = self._run.laboratory.thread_efficiencies(cases)
        for threads, value in efficiencies.items():
            self._run.amend(cases[threads], {EFFICIENCY: value})
        texts = (f"{threads}: {format_percent(value.value)}" for threads, value in efficiencies.items())
        self._write(f"efficiency of threads {', '.join(texts)}\n")

    def find_largest(self, line: Line) -> None:
        """Try or predict larger batches up to the end of memory, and add the largest to the record of the last one."""
        on_cpu = line.template.device_type == "cpu"
        needed = line.end == "memory" or self._sweep.to_memory
        if not (line.values and needed) or (on_cpu and self._forecast.blind):
            return
        fits = self._forecast.fits if on_cpu else self._tried

        def below(case: Case) -> bool:
            return (line.failed is None or case.batch < line.failed) and fits(case)

        largest = largest_batch(line.template, max(line.values), below)
        self._run.amend(self._case(line, max(line.values)), {"largest_batch": largest})
        self._write(f"largest batch that fits: {largest.value:.0f}\n")

    def _tried(self, case: Case) -> bool:
        """Return whether a batch fits on the GPU, after its fp32 images and a copy of them fit in the CPU's memory."""
        images = FLOAT_BYTES * case.batch * CHANNELS * case.image_size**2
        return self._forecast.holds(2 * images) and self._run.laboratory.fits(case)


FOLLOW_UPS: Mapping[str, Callable[[SweepRunner, Line], None]] = {
    "batch": SweepRunner.find_largest,
    "threads": SweepRunner.pair_threads,
}
"""Axis to the follow-up of a line whose values are measured."""


def largest_batch(case: Case, known: int, fits: Callable[[Case], bool]) -> Value:
    """Return the largest batch that fits; the interval ends before the smallest batch that is known not to fit.

    Args:
        case: Case with any batch.
        known: A batch that fits.
        fits: Whether a case fits in memory; it must be monotonic in the batch.
    """
    low, high = known, 2 * known
    while fits(case.replace(batch=high)):
        low, high = high, 2 * high
    while high - low > max(1, low // RESOLUTION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(case.replace(batch=middle)) else (low, middle)
    return Value(float(low), float(low), float(high - 1))


def _templates(cases: list[Case]) -> list[Case]:
    """Return one case for each engine: the one with the largest batch, which fills its device."""
    by_engine = {case.engine: case for case in sorted(cases, key=lambda case: case.batch)}
    return [by_engine[engine] for engine in dict.fromkeys(case.engine for case in cases)]
