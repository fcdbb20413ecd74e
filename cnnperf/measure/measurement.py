"""Measurement of one case: correctness first, then memory, then time, then the record for the run file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import torch

from cnnperf.errors import OutOfMemory, WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.ceilings import measure_ceilings
from cnnperf.measure.checks import findings_of
from cnnperf.measure.clock import Clock, clock_for
from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.correctness import References, Verified
from cnnperf.measure.device import DeviceClock, DeviceFacts, measure_device
from cnnperf.measure.exhaustion import out_of_memory_told, release_caches
from cnnperf.measure.memory import measure_memory
from cnnperf.measure.nvml import Gpu
from cnnperf.measure.precisions import cudnn_benchmark
from cnnperf.measure.rapl import Rapl
from cnnperf.measure.sampler import Samples, Schedule, sample
from cnnperf.measure.support import check_supported, in_force
from cnnperf.measure.symptoms import Evidence
from cnnperf.measure.threads import thread_efficiencies
from cnnperf.measure.transfers import measure_transfers
from cnnperf.measure.values import compile_seconds, compile_values, memory_values, time_values, work_values
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord


@dataclass(frozen=True)
class Measured:
    """Result of the measurement of one case.

    Attributes:
        case: The case.
        values: Values by the names of their metrics.
        samples: The readings.
        findings: Reasons to distrust the values.
        compile_seconds: Seconds spent compiling and loading the compiler; not part of the harness's own time.
        processes: Median seconds of one call in each process that timed the case, this process first.
    """

    case: Case
    values: Mapping[str, Value]
    samples: Samples
    findings: list[Finding]
    compile_seconds: float
    processes: tuple[float, ...] = ()

    def record(self, test: str) -> CaseRecord:
        """Return the record for the run file.

        Args:
            test: Full name of the test or command that measured the case.
        """
        return CaseRecord(
            case=self.case,
            values=with_units(self.values),
            rounds=Rounds(self.samples.wall()),
            findings=tuple(self.findings),
            processes=self.processes,
            stopped=self.samples.stopped,
            test=test,
        )

    def seconds(self) -> list[float]:
        """Return the wall seconds of all rounds in order."""
        return [reading.wall for reading in self.samples.flat()]

    def timed_seconds(self) -> float:
        """Return the seconds of all rounds with their set-ups, which are a metric of the phase `backward`."""
        return sum(reading.wall + reading.setup for reading in self.samples.flat())


@dataclass
class Laboratory:
    """Measurement of the cases of one run, which share ceilings and references.

    Attributes:
        schedule: Budget and precision of the sampling of each case.
        input_kind: `synthetic` or `photos`.
        ceilings: Ceilings by device, measured at the first case of each device.
        cudnn_benchmark: Whether cuDNN benchmarks its convolution algorithms and uses the fastest.
        make_clock: Function that returns the clock of a device; tests pass a scripted clock.
        make_workload: Function that builds the workload of a case; tests inject faults here.
    """

    schedule: Schedule = field(default_factory=Schedule)
    input_kind: str = "synthetic"
    cudnn_benchmark: bool = False
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    make_clock: Callable[[torch.device], Clock] = clock_for
    make_workload: Callable[[Case], Workload] | None = None
    _references: References = field(init=False)
    _eager_latency: dict[Case, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Create the references, whose workloads come from the same builder as those of the cases."""
        self._references = References(self._new_workload)

    def prepare(self, case: Case) -> None:
        """Measure the ceilings of a case's device, once for all its cases; raise as `measure` does."""
        check_supported(case)
        with out_of_memory_told(), self._in_force(case):
            self._ceilings_of(torch.device(case.device))

    def measure(self, case: Case) -> Measured:
        """Measure one case.

        Raises:
            UnsupportedCase: If this machine cannot run the case.
            OutOfMemory: If the case needs more memory than there is.
            WrongResult: If the results are wrong, the clock jumped, or a catalog network has graph breaks.
        """
        self.prepare(case)
        with out_of_memory_told(), self._in_force(case):
            return self._measure(case)

    def latency(self, case: Case) -> float:
        """Return only the median seconds of one call; raise as `measure` does for an unsupported case."""
        check_supported(case)
        with out_of_memory_told(), self._in_force(case):
            workload = self._prepare(case)
            compilation.compile_first_round(workload)
            return sample(workload, self.make_clock(torch.device(case.device)), self.schedule).latency().value

    def fits(self, case: Case) -> bool:
        """Return whether two untimed rounds of a case fit in memory.

        The second round includes the optimizer's state. Only for CUDA: on the CPU the kernel kills a process that runs
        out of memory, so that `memory_forecast` has to predict it.
        """
        try:
            self._try(case)
        except OutOfMemory:
            fits = False
        else:
            fits = True
        release_caches(case)
        return fits

    def _try(self, case: Case) -> None:
        with out_of_memory_told(), self._in_force(case):
            workload = self._prepare(case)
            compilation.compile_first_round(workload)
            workload.run_once()

    def thread_efficiencies(self, cases: Mapping[int, Case]) -> dict[int, Value]:
        """Return the efficiency of each number of threads above 1; see `threads.thread_efficiencies`.

        Args:
            cases: CPU cases by number of threads, equal in all else and not compiled.
        """
        with out_of_memory_told():
            subjects = {threads: self._new_workload(case) for threads, case in cases.items()}
            return thread_efficiencies(subjects, self.make_clock(torch.device("cpu")), self.schedule)

    def check(self, case: Case) -> Verified:
        """Check the results of one case without timing it; raise as `measure` does."""
        check_supported(case)
        with out_of_memory_told(), self._in_force(case):
            workload = self._prepare(case)
            workload.run_once()
            return self._references.verify(workload)

    def _measure(self, case: Case) -> Measured:
        device = torch.device(case.device)
        ceilings = self._ceilings_of(device)
        work = count_work(case)
        workload = self._prepare(case)
        load_seconds = compilation.load_compiler()
        facts = compilation.compile_first_round(workload)
        _check_graph(case, facts)
        verified = self._references.verify(workload)
        memory = None if ENGINES[case.engine].replays_graphs else measure_memory(workload)
        graphs = compilation.captured_graphs()
        clock = self.make_clock(device)
        # RAPL would also count the untimed forward pass of the phase `backward`.
        meter = Rapl.find() if device.type == "cpu" and case.phase != "backward" else None
        samples = sample(workload, clock, self.schedule, meter)
        recompiles = compilation.captured_graphs() - graphs
        on_device = _device_facts(workload, clock, samples)
        times = time_values(case, samples, work, ceilings)
        evidence = Evidence(
            samples=samples,
            schedule=self.schedule,
            on_cuda=device.type == "cuda",
            memory=memory,
            compiled=facts,
            recompiles=recompiles,
            device=on_device,
            compared=verified.compared,
            ceiling_fraction=times["ceiling_fraction"],
        )
        twin = case.replace(engine="eager")
        if case == twin:
            self._eager_latency[twin] = samples.latency().value
        eager_latency = self._eager_latency.get(twin) if case.compiled else None
        values = {
            **times,
            **(on_device.values if on_device else {}),
            **memory_values(memory),
            **work_values(case, work, verified),
            **compile_values(facts, recompiles, samples, eager_latency),
        }
        seconds = load_seconds + compile_seconds(facts, samples)
        return Measured(case, values, samples, findings_of(evidence), seconds)

    @contextmanager
    def _in_force(self, case: Case) -> Iterator[None]:
        with in_force(case), cudnn_benchmark(enabled=self.cudnn_benchmark):
            yield

    def _prepare(self, case: Case) -> Workload:
        workload = self._new_workload(case)
        if case.compiled:
            workload.compile()
        return workload

    def _new_workload(self, case: Case) -> Workload:
        if self.make_workload is not None:
            return self.make_workload(case)
        return Workload(case, input_kind=self.input_kind)

    def _ceilings_of(self, device: torch.device) -> dict[str, float]:
        if str(device) not in self.ceilings:
            self.ceilings[str(device)] = measure_ceilings(device)
        return self.ceilings[str(device)]


def _check_graph(case: Case, facts: CompileFacts | None) -> None:
    """Raise for graph breaks in a network of the catalog; in a user's network they are a finding."""
    if facts is not None and facts.graph_breaks and case.architecture in CATALOG:
        raise WrongResult(
            f"{case.label()}: {facts.graph_breaks} graph breaks, but a network of the catalog must have none: "
            f"{facts.break_reasons[0]}; nothing was timed. TORCH_LOGS=graph_breaks shows where"
        )


def _device_facts(workload: Workload, clock: Clock, samples: Samples) -> DeviceFacts | None:
    event = samples.event_latency()
    if event is None:
        return None
    device = workload.images.device
    facts = measure_device(
        workload,
        cast(DeviceClock, clock),
        (samples.latency(), event),
        workload.case.batch,
        has_setup=workload.case.phase == "backward",
        gpu=Gpu.of(device),
    )
    copies = measure_transfers(workload.images.cpu(), device, clock)
    return replace(facts, values={**facts.values, **copies})
