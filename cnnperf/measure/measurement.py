"""The measurement of one case: correct first, then memory, then time, then the record for the run file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import torch

from cnnperf.errors import OutOfMemory, WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.ceilings import ceiling_seconds, measure_ceilings
from cnnperf.measure.checks import findings_of
from cnnperf.measure.clock import Clock, clock_for
from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.correctness import References, Verified
from cnnperf.measure.device import DeviceClock, DeviceFacts, measure_device
from cnnperf.measure.exhaustion import out_of_memory_told, release_caches
from cnnperf.measure.memory import Memory, measure_memory
from cnnperf.measure.nvml import Gpu
from cnnperf.measure.precisions import PRECISIONS, cudnn_benchmark
from cnnperf.measure.rapl import Rapl
from cnnperf.measure.sampler import Samples, Schedule, sample
from cnnperf.measure.support import check_supported, in_force
from cnnperf.measure.symptoms import Evidence
from cnnperf.measure.threads import thread_efficiencies
from cnnperf.measure.transfers import measure_transfers
from cnnperf.measure.work import Work, count_work
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord
from cnnperf.stats.median import median_interval


@dataclass(frozen=True)
class Measured:
    """Everything that the measurement of one case gave.

    Attributes:
        case: The case.
        values: By metric name.
        samples: The readings.
        findings: Reasons to distrust the values.
        compile_seconds: Spent compiling and loading the compiler, not part of the harness's own time.
        processes: Median seconds of one call in each process that timed the case, this one first.
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
        """Return the seconds of all rounds, a backward's own forward included, which is a metric too."""
        return sum(reading.wall + reading.setup for reading in self.samples.flat())


@dataclass
class Laboratory:
    """Measurement of the cases of one run, which share ceilings and references.

    Attributes:
        schedule: How long and how precisely each case is sampled.
        input_kind: `synthetic` or `photos`.
        ceilings: Of each device that was used, measured at its first case.
        cudnn_benchmark: Whether cuDNN chooses convolutions by trying them.
        make_clock: The clock of a device; tests give a scripted one.
        make_workload: Builds a case; tests plant faults here.
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
        """Let references be built like the workloads that are compared with them."""
        self._references = References(self._new_workload)

    def prepare(self, case: Case) -> None:
        """Measure the ceilings of a case's device, once for all its cases; raises as `measure` does."""
        check_supported(case)
        with out_of_memory_told(), self._in_force(case):
            self._ceilings_of(torch.device(case.device))

    def measure(self, case: Case) -> Measured:
        """Measure one case.

        Raises:
            UnsupportedCase: If the device does not exist, cannot compute in the precision, or runs out of memory (which
                is `OutOfMemory`).
            WrongResult: If the results are wrong, the clock jumped, or a network of the catalog breaks its graph.
        """
        self.prepare(case)
        with out_of_memory_told(), self._in_force(case):
            return self._measure(case)

    def latency(self, case: Case) -> float:
        """Return the median seconds of one call, and nothing else; raises as `measure` does for an unsupported case."""
        check_supported(case)
        with out_of_memory_told(), self._in_force(case):
            workload = self._prepare(case)
            compilation.compile_first_round(workload)
            return sample(workload, self.make_clock(torch.device(case.device)), self.schedule).latency().value

    def fits(self, case: Case) -> bool:
        """Tell whether there is memory for the calls of a case, by two untimed rounds.

        The second finds the optimizer's state in place. The attempt kills the process where the kernel, and not the
        allocator, ends memory: on the CPU it has to be foreseen instead.
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
        """Return the efficiency of each number of threads but one; see `threads.thread_efficiencies`.

        Args:
            cases: By number of threads, all of one kind, on the CPU and not compiled.
        """
        with out_of_memory_told():
            subjects = {threads: self._new_workload(case) for threads, case in cases.items()}
            return thread_efficiencies(subjects, self.make_clock(torch.device("cpu")), self.schedule)

    def check(self, case: Case) -> Verified:
        """Check the results of one case without timing it; raises as `measure` does."""
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
        loading = compilation.load_compiler()
        facts = compilation.compile_first_round(workload)
        _check_graph(case, facts)
        verified = self._references.verify(workload)
        memory = None if ENGINES[case.engine].replays_graphs else measure_memory(workload)
        graphs = compilation.captured_graphs()
        clock = self.make_clock(device)
        # A backward's forward, which is no part of it, would count as well.
        meter = Rapl.find() if device.type == "cpu" and case.phase != "backward" else None
        samples = sample(workload, clock, self.schedule, meter)
        recompiles = compilation.captured_graphs() - graphs
        on_device = _device_facts(workload, clock, samples)
        times = _time_values(case, samples, work, ceilings)
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
        values = times | dict(on_device.values if on_device else {}) | _memory_values(memory)
        values |= _work_values(case, work, verified) | self._compile_values(case, facts, recompiles, samples)
        compiling = loading + _compile_seconds(facts, samples)
        return Measured(case, values, samples, findings_of(evidence), compiling)

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
        return (self.make_workload or (lambda case: Workload(case, input_kind=self.input_kind)))(case)

    def _ceilings_of(self, device: torch.device) -> dict[str, float]:
        if str(device) not in self.ceilings:
            self.ceilings[str(device)] = measure_ceilings(device)
        return self.ceilings[str(device)]

    def _compile_values(
        self, case: Case, facts: CompileFacts | None, recompiles: int, samples: Samples
    ) -> dict[str, Value]:
        latency, seconds = samples.latency().value, _compile_seconds(facts, samples)
        twin = case.replace(engine="eager")
        if case.engine == "eager":
            self._eager_latency[twin] = latency
        if facts is None:
            return {}
        values = {
            "compile_cold" if facts.cold else "compile_warm": Value(seconds),
            "graphs": Value(facts.graphs),
            "graph_breaks": Value(facts.graph_breaks),
            "recompiles": Value(recompiles),
            "kernels": Value(facts.kernels),
        }
        gain = self._eager_latency.get(twin, 0.0) - latency
        if case.compiled and gain > 0:
            values["break_even"] = Value(seconds / gain)
        return values


def _check_graph(case: Case, facts: CompileFacts | None) -> None:
    """The catalog's networks promise to compile into whole graphs; a user's network may break with a finding."""
    if facts is not None and facts.graph_breaks and case.architecture in CATALOG:
        raise WrongResult(
            f"{case.label()}: {facts.graph_breaks} graph breaks where none is promised: {facts.break_reasons[0]}; "
            "nothing was timed. TORCH_LOGS=graph_breaks tells where"
        )


def _compile_seconds(facts: CompileFacts | None, samples: Samples) -> float:
    """Return the seconds of the first round less those of a usual one, 0 where nothing was compiled."""
    return 0.0 if facts is None else max(0.0, facts.seconds - samples.latency().value)


def _time_values(case: Case, samples: Samples, work: Work, ceilings: Mapping[str, float]) -> dict[str, Value]:
    latency = samples.latency()
    least, _ = ceiling_seconds(work, ceilings, case.precision)
    graph = {"graph_latency": samples.setup_latency()} if case.phase == "backward" else {}
    return graph | {
        "latency": latency,
        "throughput": latency.scaled_inverse(case.batch),
        "cpu_busy": Value(samples.cpu_busy()),
        "flop_rate": latency.scaled_inverse(work.flop),
        "ceiling_fraction": latency.scaled_inverse(least),
        **({"energy": median_interval([[each / case.batch] for each in samples.energy])} if samples.energy else {}),
    }


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


def _memory_values(memory: Memory | None) -> dict[str, Value]:
    if memory is None:
        return {}
    values = memory.split()
    if memory.reserved is not None:
        values["reserved_memory"] = memory.reserved
    return {name: Value(value) for name, value in values.items()}


def _work_values(case: Case, work: Work, verified: Verified) -> dict[str, Value]:
    values = {"parameters": work.parameters, "flop": work.flop, "traffic": work.traffic}
    if case.engine == "eager" and PRECISIONS[case.precision].autocast is None:  # its copies of weights are not counted
        values["live_tensor_memory"] = work.live
    error = {"relative_error": Value(verified.relative_error)} if verified.compared else {}
    return {name: Value(value) for name, value in values.items()} | error
