"""Measurement of blocks: at the first test of a block it and the blocks after it, in turn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cnnperf.errors import CnnperfError, Interrupted
from cnnperf.measure.block_task import BlockTask
from cnnperf.measure.measured import Measured
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.replicas import Replicas, with_repetitions
from cnnperf.measure.sampler import INTERRUPTED
from cnnperf.records.case import Case
from cnnperf.runs.forms import compared_cases
from cnnperf.suite.blocks import Block

TOGETHER = 60.0
"""Most seconds of the budgets of blocks that are sampled in turn. Longer runs are measured part by part, so that a
killed process loses one part only."""


@dataclass
class BlockRunner:
    """Measurement of the blocks of a run.

    Attributes:
        laboratory: Measures a block.
        blocks: Block of each case; a case without one is measured alone.
        replicas: Further processes that measure each block, or None.
        left_over: Seconds of rounds that earlier blocks were given and did not need.
        one_by_one: Whether each block is measured by itself: where the first failure ends the run, and in sweeps.
    """

    laboratory: Laboratory
    blocks: Mapping[Case, Block] = field(default_factory=dict)
    replicas: Replicas | None = None
    left_over: float = 0.0
    one_by_one: bool = False
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
        return 0 if case in self._results else sum(len(block.cases) for block in self._in_turn(self.block_of(case)))

    def result(self, case: Case) -> Measured:
        """Return the result of a case, each once; the first case of a block has all of its cases measured.

        Raises:
            CnnperfError: The reason why the case has no result.
            KeyboardInterrupt: If the user interrupted the measurement; see `unreported`.
        """
        if case not in self._results:
            self._measure(self._in_turn(self.block_of(case)))
        result = self._results.pop(case)
        if isinstance(result, CnnperfError):
            raise result
        return result

    def waiting(self) -> int:
        """Return the number of results that no test has asked for."""
        return len(self._results)

    def unreported(self) -> Iterator[tuple[Measured, str]]:
        """Yield the results that no test has asked for, each with the name of its test."""
        for case, result in self._results.items():
            if isinstance(result, Measured):
                yield result, self.block_of(case).tests.get(case, "")

    def _in_turn(self, block: Block) -> list[Block]:
        """Return a block and those after it that are sampled in turn with it."""
        waiting = [other for other in dict.fromkeys(self.blocks.values()) if other not in self._started]
        chosen, budget = [block], self._task(block).budget
        for other in waiting:
            if other is block:
                continue
            budget += self._task(other).budget
            if self.one_by_one or budget > TOGETHER:
                break
            chosen.append(other)
        return chosen

    def _measure(self, blocks: Sequence[Block]) -> None:
        tasks = {block: self._task(block) for block in blocks}
        interrupted = False
        try:
            results = self.laboratory.measure_blocks(list(tasks.values()))
        except Interrupted as interrupt:
            results, interrupted = dict(interrupt.results), True
        for block, task in tasks.items():
            of_block = {case: results[case] for case in block.cases if case in results}
            if not of_block:
                continue  # for which there was no memory beside the others, or too few cycles before an interrupt
            self._started.add(block)
            if self.replicas is not None and not interrupted:
                interrupted = self._repeat(self.replicas, task, of_block)
            self._results |= of_block
            spent = [result.samples.spent() for result in of_block.values() if isinstance(result, Measured)]
            usual = self.laboratory.schedule.budget * len(block.cases)
            self.left_over = max(0.0, self.left_over + usual - math.fsum(spent))
        if interrupted:
            raise KeyboardInterrupt

    def _repeat(self, replicas: Replicas, task: BlockTask, results: dict[Case, Measured | CnnperfError]) -> bool:
        """Add the results of a block in the further processes; return whether the user interrupted these."""
        measured = {case: result for case, result in results.items() if isinstance(result, Measured)}
        try:
            repetitions = replicas.repeat(replace(task, cases=tuple(measured))) if measured else []
        except KeyboardInterrupt:
            for result in measured.values():
                result.samples.stopped = INTERRUPTED
            return True
        results |= {case: with_repetitions(result, repetitions) for case, result in measured.items()}
        return False

    def _task(self, block: Block) -> BlockTask:
        """Return a block as a task, whose schedule gets its share of the time that is left over."""
        usual = self.laboratory.schedule
        waiting = sum(self.block_of(case) not in self._started for case in self.blocks) or len(block.cases)
        ratios = len(compared_cases(list(self.blocks)))
        schedule = replace(usual, budget=usual.budget + self.left_over / waiting, ratios=max(1, ratios))
        return BlockTask(block.name, block.cases, tuple(compared_cases(block.cases)), schedule)
