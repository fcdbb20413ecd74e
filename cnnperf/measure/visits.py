"""Blocks that are sampled in turn: each is visited again and again until the time of all of them is over.

A shared machine changes its speed for a second or for a minute, and a ratio may differ between two of its states. A
block that is sampled in one go sees one of them, and its interval does not cover what the next run sees. Sixteen visits
see more of them, and their spread is that of the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic

from cnnperf.errors import CnnperfError
from cnnperf.measure.cycles import Cycles, Key, Progress
from cnnperf.measure.sampler import collector_paused
from cnnperf.stats.paired import BATCHES

VISITS = BATCHES
"""Visits of each block; the interval of a ratio comes from as many batches of cycles."""

LONGEST_WARM_UP = 0.25
"""Largest share of the cycles of a visited block that count as warm-up. A case is warm after a second of its own, but a
machine may change its state in the middle of a run."""


@dataclass
class VisitedBlock(Generic[Key]):
    """A block that is sampled beside others.

    Attributes:
        cycles: Its cycles.
        settings: Function that returns a context with the process-wide settings of the block.
        error: Error that ended its sampling, or None.
        empty: Whether an interrupt left fewer than two whole cycles.
    """

    cycles: Cycles[Key]
    settings: Callable[[], AbstractContextManager[object]]
    error: CnnperfError | None = None
    empty: bool = False

    def visit(self, share: float) -> None:
        """Sample the block until a share of its budget is spent."""
        try:
            with self.settings():
                self.cycles.advance(share)
        except CnnperfError as error:
            self.error = error
            self.cycles.going = []


def sample_in_turn(blocks: Sequence[VisitedBlock[Key]], watch: Callable[[Progress], object]) -> bool:
    """Sample all blocks until their ratios suffice or the budget of all of them ends.

    What a block leaves over of its budget, because its ratios suffice, goes to the others. An interrupt (Ctrl-C) ends
    the sampling of all of them: each keeps its whole cycles if there are two.

    Args:
        blocks: Blocks whose subjects are warm. One alone is sampled in one go.
        watch: Function that is called after each visit.

    Returns:
        Whether the user interrupted.
    """
    interrupted = False
    visits = VISITS if len(blocks) > 1 else 1
    with collector_paused():
        try:
            for visit in range(1, visits + 1):
                for block in blocks:
                    block.visit(visit / visits)
                    _pass_on(block, blocks)
                    watch(_progress(blocks, visit))
        except KeyboardInterrupt:
            interrupted = True
            for block in blocks:
                block.empty = bool(block.cycles.going) and not block.cycles.keep_whole()
    for block in blocks:
        if block.error is None and block.cycles.subjects and not block.empty:
            block.cycles.drop_transient(LONGEST_WARM_UP if visits > 1 else 0.5)
    return interrupted


def _pass_on(block: VisitedBlock[Key], blocks: Sequence[VisitedBlock[Key]]) -> None:
    """Add what an ended block leaves over to the budgets of the others, by their numbers of subjects."""
    left = block.cycles.budget - block.cycles.spent()
    others = [other.cycles for other in blocks if other.cycles.going]
    if block.cycles.going or left <= 0 or not others:
        return
    block.cycles.budget -= left
    subjects = sum(len(cycles.subjects) for cycles in others)
    for cycles in others:
        cycles.budget += left * len(cycles.subjects) / subjects


def _progress(blocks: Sequence[VisitedBlock[Key]], visit: int) -> Progress:
    states = [block.cycles.progress() for block in blocks]
    return Progress(
        cycles=sum(state.cycles for state in states),
        widest=max(state.widest for state in states),
        spent=sum(state.spent for state in states),
        budget=sum(state.budget for state in states),
        visit=visit,
        visits=VISITS,
    )
