"""Sampling of prepared blocks: those of one case by themselves, the others in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch

from cnnperf.errors import CnnperfError
from cnnperf.measure.block_task import PreparedBlock
from cnnperf.measure.clock import Clock
from cnnperf.measure.compilation import RecompileCounter
from cnnperf.measure.cycles import Cycles, Instruments, Progress
from cnnperf.measure.failures import converting_failures, kept_error
from cnnperf.measure.graph_replay import ReplayClock, Replayed
from cnnperf.measure.paired import warm_cycles
from cnnperf.measure.rapl import Rapl
from cnnperf.measure.sampler import INTERRUPTED, Meter, Samples, collector_paused, sample
from cnnperf.measure.visits import VisitedBlock, sample_in_turn
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES

Sampled = Mapping[Case, Samples]


@dataclass
class SampledBlocks:
    """Samples of several blocks.

    Attributes:
        samples: Samples by case of each block of which there are some.
        errors: By case, why there are none.
        interrupted: Whether the user interrupted the sampling; cases without whole cycles have neither.
    """

    samples: list[tuple[PreparedBlock, Sampled]] = field(default_factory=list)
    errors: dict[Case, CnnperfError] = field(default_factory=dict)
    interrupted: bool = False


@dataclass
class BlockSampler:
    """Sampling of the blocks that are prepared.

    Attributes:
        make_clock: Function that returns the clock of a device.
        settings: Function that returns a context with the process-wide settings of a block, in which errors of
            allocators are `OutOfMemory`.
        watch: Function that is called after each cycle of a block alone, or after each visit of several.
        recompiles: Counter of graphs that are compiled during sampling.
    """

    make_clock: Callable[[torch.device], Clock]
    settings: Callable[[PreparedBlock], AbstractContextManager[None]]
    watch: Callable[[Progress], object]
    recompiles: RecompileCounter = field(default_factory=RecompileCounter)

    def sample(self, blocks: Sequence[PreparedBlock]) -> SampledBlocks:
        """Sample the cases of all blocks; an interrupt by the user keeps what there is."""
        found = SampledBlocks()
        try:
            self._sample(blocks, found)
        except KeyboardInterrupt:  # before the first visit
            found.interrupted = True
        return found

    def _sample(self, blocks: Sequence[PreparedBlock], found: SampledBlocks) -> None:
        in_turn: list[tuple[PreparedBlock, VisitedBlock[Case]]] = []
        several = sum(len(block.ready) > 1 for block in blocks) > 1
        watch_cycles, watch_visits = (_nothing, self.watch) if several else (self.watch, _nothing)
        for block in blocks:
            try:
                with self.settings(block):
                    if len(block.ready) == 1:
                        self._alone(block, found)
                    elif block.ready:
                        cycles = self._warm(block, watch_cycles)
                        in_turn.append((block, VisitedBlock(cycles, partial(self.settings, block))))
            except CnnperfError as error:
                found.errors |= {one.case: kept_error(error) for one in block.ready}
            if found.interrupted:
                return
        found.interrupted = sample_in_turn([each for _, each in in_turn], watch_visits)
        for block, each in in_turn:
            if each.error is not None:
                found.errors |= {one.case: kept_error(each.error) for one in block.ready}
            found.errors |= {case: kept_error(error) for case, error in each.cycles.failed.items()}
            if each.error is None and each.cycles.samples and not each.empty:
                found.samples.append((block, _per_call(block, each.cycles.samples)))

    def _clock_of(self, case: Case) -> Clock:
        device = torch.device(case.device)
        return ReplayClock(device) if ENGINES[case.engine].rotates else self.make_clock(device)

    def _alone(self, block: PreparedBlock, found: SampledBlocks) -> None:
        (one,) = block.ready
        meter = _meters([one.case]).get(one.case)
        with converting_failures():
            samples = sample(one.subject, self._clock_of(one.case), block.task.schedule, meter)
        self.recompiles.after_turn(one.case)
        found.samples.append((block, _per_call(block, {one.case: samples})))
        found.interrupted = samples.stopped == INTERRUPTED

    def _warm(self, block: PreparedBlock, watch: Callable[[Progress], object]) -> Cycles[Case]:
        """Warm the cases of a block up, and return its cycles before the first."""
        by_device = {one.case.device: self._clock_of(one.case) for one in block.ready}
        clocks = {one.case: by_device[one.case.device] for one in block.ready}
        subjects = {one.case: one.subject for one in block.ready}
        observers = Instruments(_meters(list(clocks)), self.recompiles.after_turn, watch)
        with collector_paused():
            return warm_cycles(subjects, clocks, block.task.schedule, block.asked(), observers)


def _per_call(block: PreparedBlock, samples: Sampled) -> Sampled:
    """Return the samples of single calls: the rounds of replays are several."""
    calls = {one.case: one.subject.calls for one in block.ready if isinstance(one.subject, Replayed)}
    return {case: each.per_call(calls[case]) if case in calls else each for case, each in samples.items()}


def _meters(cases: Sequence[Case]) -> dict[Case, Meter]:
    """Return the energy counter of each case that has one."""
    rapl = Rapl.find()
    # RAPL would also count the untimed forward pass of the phase `backward`.
    on_cpu = [case for case in cases if case.device_type == "cpu" and case.phase != "backward"]
    return {} if rapl is None else dict.fromkeys(on_cpu, rapl)


def _nothing(_: object) -> None:
    """Do nothing: nobody watches."""
