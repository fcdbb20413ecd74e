"""Measurement of blocks: each at the first of its tests, with the time that earlier blocks have left over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cnnperf.errors import CnnperfError
from cnnperf.measure.measured import Measured
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.replicas import Replicas, Task, with_repetitions
from cnnperf.measure.sampler import INTERRUPTED, Schedule
from cnnperf.records.case import Case
from cnnperf.runs.forms import compared_cases
from cnnperf.suite.blocks import Block


@dataclass
class BlockRunner:
    """Measurement of the blocks of a run.

    Attributes:
        laboratory: Measures a block.
        blocks: Block of each case; a case without one is measured alone.
        replicas: Further processes that measure each block, or None.
        left_over: Seconds of rounds that earlier blocks were given and did not need.
    """

    laboratory: Laboratory
    blocks: Mapping[Case, Block] = field(default_factory=dict)
    replicas: Replicas | None = None
    left_over: float = 0.0
    _results: dict[Case, Measured | CnnperfError] = field(default_factory=dict)
    _started: set[Block] = field(default_factory=set)

    def add(self, block: Block) -> None:
        """Add a block whose cases are known only during the run; call it before the first of them is measured."""
        self.blocks = {**self.blocks, **dict.fromkeys(block.cases, block)}

    def block_of(self, case: Case) -> Block:
        """Return the block of a case."""
        return self.blocks.get(case) or Block("", (case,))

    def measures_now(self, case: Case) -> int:
        """Return the number of cases that `result` would measure."""
        return 0 if case in self._results else len(self.block_of(case).cases)

    def result(self, case: Case) -> Measured:
        """Return the result of a case, each once; the first case of a block has all of its cases measured.

        Raises:
            CnnperfError: The reason why the case has no result.
        """
        if case not in self._results:
            self._measure(self.block_of(case))
        result = self._results.pop(case)
        if isinstance(result, CnnperfError):
            raise result
        return result

    def interrupted(self) -> Iterator[tuple[Measured, str]]:
        """Yield the results of an interrupted block that no test has asked for, each with the name of its test."""
        for case, result in self._results.items():
            if isinstance(result, Measured) and result.samples.stopped == INTERRUPTED:
                yield result, self.block_of(case).tests[case]

    def _measure(self, block: Block) -> None:
        schedule = self._schedule(block)
        self._started.add(block)
        asked = tuple(compared_cases(block.cases))
        results = self.laboratory.measure_block(block.name, block.cases, asked, schedule)
        self._results |= self._repeated(Task(block.name, block.cases, asked, schedule), results)
        spent = [result.samples.spent() for result in results.values() if isinstance(result, Measured)]
        usual = self.laboratory.schedule.budget * len(block.cases)
        self.left_over = max(0.0, self.left_over + usual - math.fsum(spent))

    def _repeated(
        self, task: Task, results: Mapping[Case, Measured | CnnperfError]
    ) -> Mapping[Case, Measured | CnnperfError]:
        """Return the results of a block with those of the further processes; an interrupt ends only these."""
        measured = {case: result for case, result in results.items() if isinstance(result, Measured)}
        interrupted = any(result.samples.stopped == INTERRUPTED for result in measured.values())
        if self.replicas is None or not measured or interrupted:
            return results
        try:
            repetitions = self.replicas.repeat(replace(task, cases=tuple(measured)))
        except KeyboardInterrupt:
            for result in measured.values():
                result.samples.stopped = INTERRUPTED
            return results
        return {**results, **{case: with_repetitions(result, repetitions) for case, result in measured.items()}}

    def _schedule(self, block: Block) -> Schedule:
        """Return the schedule of a block, which gets its share of the time that is left over."""
        usual = self.laboratory.schedule
        waiting = sum(self.block_of(case) not in self._started for case in self.blocks) or len(block.cases)
        ratios = len(compared_cases(list(self.blocks)))
        return replace(usual, budget=usual.budget + self.left_over / waiting, ratios=max(1, ratios))
