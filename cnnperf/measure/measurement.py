"""Measurement of one case: correctness first, then memory, then time, then the record for the run file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from cnnperf.errors import CnnperfError, Interrupted, OutOfMemory
from cnnperf.measure import compilation
from cnnperf.measure.block_sampler import BlockSampler
from cnnperf.measure.block_task import BlockTask, PreparedBlock
from cnnperf.measure.ceilings import measure_ceilings
from cnnperf.measure.clock import Clock, clock_for
from cnnperf.measure.correctness import Verified
from cnnperf.measure.cycles import Progress
from cnnperf.measure.exhaustion import converting_out_of_memory, release_caches
from cnnperf.measure.failures import converting_failures, kept_error
from cnnperf.measure.measured import Measured
from cnnperf.measure.memory_forecast import process_memory
from cnnperf.measure.outcome import Prepared, Settings, result_of
from cnnperf.measure.precisions import cudnn_benchmark
from cnnperf.measure.preparation import Preparation
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.measure.support import check_supported, in_force
from cnnperf.measure.threads import thread_efficiencies
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value


def _nothing(_: object) -> None:
    """Do nothing: the observer of a run that shows no progress."""


@dataclass
class Laboratory:
    """Measurement of the cases of one run, which share ceilings and references.

    Attributes:
        schedule: Budget and precision of the sampling of each case.
        input_kind: `synthetic` or `photos`.
        ceilings: Ceilings by device, measured at the first case of each device.
        cudnn_benchmark: Whether cuDNN benchmarks its convolution algorithms and uses the fastest.
        make_clock: Function that returns the clock of a device; tests pass a scripted clock.
        watch: Function that is called after each cycle of a block, or after each visit where there are several blocks.
        prepared: Function that is called with each case that is ready to be sampled, or has failed.
        make_workload: Function that builds the workload of a case; tests inject faults here.
    """

    schedule: Schedule = field(default_factory=Schedule)
    input_kind: str = "synthetic"
    cudnn_benchmark: bool = False
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    make_clock: Callable[[torch.device], Clock] = clock_for
    make_workload: Callable[[Case], Workload] | None = None
    watch: Callable[[Progress], object] = _nothing
    prepared: Callable[[Case], object] = _nothing
    _preparation: Preparation = field(init=False)
    _eager_latency: dict[Case, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Create what prepares the cases."""
        self._preparation = Preparation(self.input_kind, self.make_workload)

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
        """Measure cases side by side, so that their ratios are paired; see `measure_blocks`."""
        return self.measure_blocks([BlockTask(name, tuple(cases), tuple(asked), schedule or self.schedule)])

    def measure_blocks(self, tasks: Sequence[BlockTask]) -> dict[Case, Measured | CnnperfError]:
        """Measure blocks of cases; the cases of one side by side, and the blocks in turn.

        Each case is built, checked and its memory measured by itself. Then all blocks are sampled in many visits.

        Args:
            tasks: Blocks, at least one. Where memory does not hold all of them, only the first are measured.

        Returns:
            The result of each case of the measured blocks, or the reason why there is none: an UnsupportedCase where
            this machine cannot run it, an OutOfMemory, a WrongResult where its results are wrong or a catalog network
            has graph breaks, or a NetworkFailed where the network raised an error. If the clock jumped, that is the
            result of all cases of a block.

        Raises:
            Interrupted: If the user interrupts the sampling; it has the results of the blocks with two whole cycles.
            KeyboardInterrupt: If the user interrupts before.
        """
        with compilation.fresh_compiler():
            results = self._sampled(self._prepared(tasks))
        for task in tasks:
            lacking = [case for case in task.cases if isinstance(results.get(case), OutOfMemory)]
            if len(tasks) > 1 and len(lacking) == len(task.cases):  # while other blocks were in memory
                release_caches(lacking[0])
                results |= self.measure_blocks([task])
            elif len(task.cases) > 1:  # memory does not hold all cases of a block, but perhaps each by itself
                for case in lacking:
                    release_caches(case)
                    results |= self.measure_block("", [case], [], task.schedule)
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
            workload = self._preparation.workload_of(case)
            compilation.compile_first_round(workload)
            workload.run_once()

    def thread_efficiencies(self, cases: Mapping[int, Case]) -> dict[int, Value]:
        """Return the efficiency of each number of threads above 1; see `threads.thread_efficiencies`.

        Args:
            cases: CPU cases by number of threads, equal in all else and not compiled.
        """
        with converting_out_of_memory():
            subjects = {threads: self._preparation.new_workload(case) for threads, case in cases.items()}
            return thread_efficiencies(subjects, self.make_clock(torch.device("cpu")), self.schedule)

    def check(self, case: Case) -> Verified:
        """Check the results of one case without timing it; raise as `measure` does."""
        check_supported(case)
        with converting_out_of_memory(), self._in_force(case), compilation.fresh_compiler():
            workload = self._preparation.workload_of(case)
            workload.run_once()
            return self._preparation.references.verify(workload)

    def _prepared(self, tasks: Sequence[BlockTask]) -> list[PreparedBlock]:
        """Prepare the first blocks: as many as take half of the memory that is left."""
        blocks: list[PreparedBlock] = []
        before = process_memory()
        for task in tasks:
            block = self._prepared_block(task)
            if blocks and block.lacks_memory:
                break  # alone it may fit
            blocks.append(block)
            now = process_memory()
            if before and now and now.holds - before.holds > (before.may_hold - before.holds) / 2:
                break
        return blocks

    def _prepared_block(self, task: BlockTask) -> PreparedBlock:
        errors: dict[Case, CnnperfError] = {}
        supported, ready = [], []
        for case in task.cases:
            try:
                self._prepare_device(case)
                supported.append(case)
            except CnnperfError as error:
                errors[case] = kept_error(error)
        compiled = [case for case in supported if case.compiled]  # whose settings include those of the others
        settings = (compiled or supported or task.cases)[0]
        with self._in_force(settings) if supported else nullcontext():
            for case in supported:
                try:
                    with converting_failures():
                        ready.append(self._preparation.ready(case))
                except CnnperfError as error:
                    errors[case] = kept_error(error)
                self.prepared(case)
        return PreparedBlock(task, settings, tuple(ready), errors)

    def _sampled(self, blocks: Sequence[PreparedBlock]) -> dict[Case, Measured | CnnperfError]:
        """Sample blocks that are ready, and return the results of their cases; where sampling failed, the error."""
        start, sampler = time.perf_counter(), BlockSampler(self.make_clock, self._settings_of, self.watch)
        sampled = sampler.sample(blocks)
        share = (time.perf_counter() - start) / max(1, sum(len(block.ready) for block in blocks))
        results: dict[Case, Measured | CnnperfError] = dict(sampled.errors)
        for block in blocks:
            results |= block.errors
        try:
            for block, samples in sampled.samples:
                results |= self._results(block, samples, sampler.recompiles.by_case, share)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(results) from interrupt
        if sampled.interrupted:
            raise Interrupted(results)
        return results

    def _results(
        self, block: PreparedBlock, samples: Mapping[Case, Samples], recompiles: Counter[Case], share: float
    ) -> dict[Case, Measured | CnnperfError]:
        """Return the results of the cases of a block with their ratios; where memory ends, the error."""
        there = {one.case: one for one in block.ready if one.case in samples}
        eager = [case for case in there if case.engine == "eager"]
        self._eager_latency |= {case: samples[case].latency().value for case in eager}
        schedule = block.task.schedule
        pairs = [pair for pair in block.task.asked if samples.keys() >= set(pair)]
        try:
            with self._settings_of(block):
                measured = {
                    case: self._result(one, samples[case], recompiles[case], schedule, by_ratios=bool(pairs))
                    for case, one in there.items()
                }
        except CnnperfError as error:
            return {case: kept_error(error) for case in samples}
        name = block.task.name if len(there) > 1 else ""
        results: dict[Case, Measured | CnnperfError] = {}
        for case, result in measured.items():
            others = [measured[below] for above, below in pairs if above == case]
            results[case] = replace(result.over(*others), block=name, duration=there[case].seconds + share)
        return results

    @contextmanager
    def _settings_of(self, block: PreparedBlock) -> Iterator[None]:
        with self._in_force(block.settings), converting_out_of_memory():
            yield

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

    def _ceilings_of(self, device: torch.device) -> dict[str, float]:
        if str(device) not in self.ceilings:
            self.ceilings[str(device)] = measure_ceilings(device)
        return self.ceilings[str(device)]
