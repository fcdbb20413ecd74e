"""Measurement of one case: correctness first, then memory, then time, then the record for the run file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from cnnperf.errors import CnnperfError, OutOfMemory, WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.ceilings import measure_ceilings
from cnnperf.measure.clock import Clock, clock_for
from cnnperf.measure.correctness import References, Verified
from cnnperf.measure.cycles import Instruments, Progress
from cnnperf.measure.exhaustion import converting_out_of_memory, release_caches
from cnnperf.measure.graph_replay import ReplayClock, Replayed
from cnnperf.measure.measured import Measured
from cnnperf.measure.memory import measure_memory, reserved_bytes
from cnnperf.measure.outcome import Prepared, Settings, result_of
from cnnperf.measure.paired import sample_block
from cnnperf.measure.precisions import cudnn_benchmark
from cnnperf.measure.rapl import Rapl
from cnnperf.measure.rotation import replayed
from cnnperf.measure.sampler import Samples, Schedule, sample
from cnnperf.measure.support import check_supported, in_force
from cnnperf.measure.threads import thread_efficiencies
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES
from cnnperf.records.metrics import Value


@dataclass
class Laboratory:
    """Measurement of the cases of one run, which share ceilings and references.

    Attributes:
        schedule: Budget and precision of the sampling of each case.
        input_kind: `synthetic` or `photos`.
        ceilings: Ceilings by device, measured at the first case of each device.
        cudnn_benchmark: Whether cuDNN benchmarks its convolution algorithms and uses the fastest.
        make_clock: Function that returns the clock of a device; tests pass a scripted clock.
        watch: Function that is called after each cycle of a block.
        make_workload: Function that builds the workload of a case; tests inject faults here.
    """

    schedule: Schedule = field(default_factory=Schedule)
    input_kind: str = "synthetic"
    cudnn_benchmark: bool = False
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    make_clock: Callable[[torch.device], Clock] = clock_for
    make_workload: Callable[[Case], Workload] | None = None
    watch: Callable[[Progress], object] = lambda _: None
    _references: References = field(init=False)
    _eager_latency: dict[Case, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Create the references, whose workloads come from the same builder as those of the cases."""
        self._references = References(self._new_workload)

    def _prepare_device(self, case: Case) -> None:
        """Check that a case can run here, and measure the ceilings of its device once for all its cases."""
        check_supported(case)
        with converting_out_of_memory(), self._in_force(case):
            self._ceilings_of(torch.device(case.device))

    def measure(self, case: Case) -> Measured:
        """Measure one case by itself.

        Raises:
            UnsupportedCase: If this machine cannot run the case.
            OutOfMemory: If the case needs more memory than there is.
            WrongResult: If the results are wrong, the clock jumped, or a catalog network has graph breaks.
        """
        measured = self.measure_block("", [case], [])[case]
        if isinstance(measured, CnnperfError):
            raise measured
        return measured

    def measure_block(
        self,
        name: str,
        cases: Sequence[Case],
        asked: Sequence[tuple[Case, Case]],
        schedule: Schedule | None = None,
    ) -> dict[Case, Measured | CnnperfError]:
        """Measure cases side by side, so that their ratios are paired.

        Each case is built, checked and its memory measured by itself. Then all are sampled cycle by cycle.

        Args:
            name: Name of the block.
            cases: Cases that need the same process-wide settings; those of the CPU and of a GPU may be mixed, because
                the settings of a GPU (TF32, cuDNN) do not concern the CPU.
            asked: Numerator and denominator of each ratio that is wanted.
            schedule: Budget and precision; None for those of the laboratory.

        Returns:
            The result of each case, or the reason why there is none: an UnsupportedCase where this machine cannot run
            it, an OutOfMemory, or a WrongResult where its results are wrong or a catalog network has graph breaks. If
            the clock jumped, that is the result of all cases.
        """
        results: dict[Case, Measured | CnnperfError] = {}
        supported = []
        for case in cases:
            try:
                self._prepare_device(case)
                supported.append(case)
            except CnnperfError as error:
                results[case] = error
        if supported:
            compiled = [case for case in supported if case.compiled]  # whose settings include those of the others
            with self._in_force((compiled or supported)[0]), compilation.fresh_compiler():
                results |= self._side_by_side(name, supported, asked, schedule or self.schedule)
        # Where memory does not hold all of them at once, each may still be measured by itself.
        alone = [case for case, found in results.items() if isinstance(found, OutOfMemory) and len(cases) > 1]
        for case in alone:
            del results[case]  # the error keeps the tensors of the block alive
            release_caches(case)
            results |= self.measure_block("", [case], [], schedule)
        return results

    def fits(self, case: Case) -> bool:
        """Return whether two untimed rounds of a case fit in memory.

        The second round includes the optimizer's state. Only for CUDA: on the CPU the kernel kills a process that runs
        out of memory, so that `memory_forecast` has to predict it.
        """
        try:
            self._run_two_rounds(case)
        except OutOfMemory:
            fits = False
        else:
            fits = True
        release_caches(case)
        return fits

    def _run_two_rounds(self, case: Case) -> None:
        with converting_out_of_memory(), self._in_force(case), compilation.fresh_compiler():
            workload = self._workload_of(case)
            compilation.compile_first_round(workload)
            workload.run_once()

    def thread_efficiencies(self, cases: Mapping[int, Case]) -> dict[int, Value]:
        """Return the efficiency of each number of threads above 1; see `threads.thread_efficiencies`.

        Args:
            cases: CPU cases by number of threads, equal in all else and not compiled.
        """
        with converting_out_of_memory():
            subjects = {threads: self._new_workload(case) for threads, case in cases.items()}
            return thread_efficiencies(subjects, self.make_clock(torch.device("cpu")), self.schedule)

    def check(self, case: Case) -> Verified:
        """Check the results of one case without timing it; raise as `measure` does."""
        check_supported(case)
        with converting_out_of_memory(), self._in_force(case), compilation.fresh_compiler():
            workload = self._workload_of(case)
            workload.run_once()
            return self._references.verify(workload)

    def _side_by_side(
        self, name: str, cases: Sequence[Case], asked: Sequence[tuple[Case, Case]], schedule: Schedule
    ) -> dict[Case, Measured | CnnperfError]:
        results: dict[Case, Measured | CnnperfError] = {}
        ready: list[Prepared] = []
        for case in cases:
            try:
                with converting_out_of_memory():
                    ready.append(self._ready(case))
            except CnnperfError as error:
                results[case] = _without_frames(error)
        return results | self._sampled(name, ready, asked, schedule)

    def _ready(self, case: Case) -> Prepared:
        start = time.perf_counter()
        work = count_work(case)
        reserved = reserved_bytes(torch.device(case.device))
        workload = self._workload_of(case)
        facts = compilation.compile_first_round(workload)
        compilation.check_graph(case, facts)
        verified = self._references.verify(workload)
        if facts is None and case.compiled and case.architecture in CATALOG:
            raise WrongResult(f"{case.label()}: nothing was compiled, the network would run eagerly; nothing was timed")
        engine = ENGINES[case.engine]
        memory = None if engine.replays_graphs else measure_memory(workload, reserved)
        subject = replayed(workload) if engine.rotates else workload
        return Prepared(workload, subject, work, facts, verified, memory, time.perf_counter() - start)

    def _sampled(
        self, name: str, ready: Sequence[Prepared], asked: Sequence[tuple[Case, Case]], schedule: Schedule
    ) -> dict[Case, Measured | CnnperfError]:
        """Sample cases that are ready, and return their results; where the clock jumped or memory ends, the error."""
        if not ready:
            return {}
        start = time.perf_counter()
        there = {one.case for one in ready}
        pairs = [pair for pair in asked if there.issuperset(pair)]
        try:
            with converting_out_of_memory():
                samples, recompiles = self._sample(ready, pairs, schedule)
                share = (time.perf_counter() - start) / len(ready)
                eager = [one.case for one in ready if one.case.engine == "eager"]
                self._eager_latency |= {case: samples[case].latency().value for case in eager}
                measured = {
                    one.case: self._result(
                        one, samples[one.case], recompiles[one.case], schedule, by_ratios=bool(pairs)
                    )
                    for one in ready
                }
        except CnnperfError as error:
            return {one.case: _without_frames(error) for one in ready}
        over = {case: [measured[below] for above, below in pairs if above == case] for case in measured}
        block = name if len(ready) > 1 else ""
        return {
            one.case: replace(measured[one.case].over(*over[one.case]), block=block, duration=one.seconds + share)
            for one in ready
        }

    def _sample(
        self, ready: Sequence[Prepared], pairs: Sequence[tuple[Case, Case]], schedule: Schedule
    ) -> tuple[dict[Case, Samples], Counter[Case]]:
        """Return the samples of each case, and how many graphs each compiled meanwhile."""
        by_device = {one.case.device: self._clock_of(one.case) for one in ready}
        clocks = {one.case: by_device[one.case.device] for one in ready}
        rapl = Rapl.find()
        # RAPL would also count the untimed forward pass of the phase `backward`.
        on_cpu = [case for case in clocks if case.device_type == "cpu" and case.phase != "backward"]
        meters = {} if rapl is None else dict.fromkeys(on_cpu, rapl)
        recompiles: Counter[Case] = Counter()
        graphs = compilation.captured_graphs()

        def count_graphs(case: Case) -> None:
            nonlocal graphs
            before, graphs = graphs, compilation.captured_graphs()
            recompiles[case] += graphs - before

        if len(ready) == 1:
            (case,) = clocks
            samples = {case: sample(ready[0].subject, clocks[case], schedule, meters.get(case))}
            count_graphs(case)
        else:
            subjects = {one.case: one.subject for one in ready}
            samples = sample_block(subjects, clocks, schedule, pairs, Instruments(meters, count_graphs, self.watch))
        for one in ready:
            if isinstance(one.subject, Replayed):
                samples[one.case] = samples[one.case].per_call(one.subject.calls)
        return samples, recompiles

    def _clock_of(self, case: Case) -> Clock:
        device = torch.device(case.device)
        return ReplayClock(device) if ENGINES[case.engine].rotates else self.make_clock(device)

    def _result(
        self, ready: Prepared, samples: Samples, recompiles: int, schedule: Schedule, *, by_ratios: bool
    ) -> Measured:
        case = ready.case
        device = torch.device(case.device)
        eager_latency = self._eager_latency.get(case.replace(engine="eager")) if case.compiled else None
        settings = Settings(self.make_clock(device), schedule, self._ceilings_of(device), eager_latency, by_ratios)
        return result_of(ready, samples, recompiles, settings)

    @contextmanager
    def _in_force(self, case: Case) -> Iterator[None]:
        with in_force(case), cudnn_benchmark(enabled=self.cudnn_benchmark):
            yield

    def _workload_of(self, case: Case) -> Workload:
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


def _without_frames(error: CnnperfError) -> CnnperfError:
    """Return an error without its traceback and causes, whose frames keep the tensors of a whole block alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
