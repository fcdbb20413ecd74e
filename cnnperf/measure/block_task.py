"""A block of cases to measure side by side, and the block once its cases are ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnperf.errors import CnnperfError, OutOfMemory
from cnnperf.measure.outcome import Prepared
from cnnperf.measure.sampler import Schedule
from cnnperf.records.case import Case


@dataclass(frozen=True)
class BlockTask:
    """A block to measure.

    Attributes:
        name: Name of the block in the run file.
        cases: Cases that need the same process-wide settings; those of the CPU and of a GPU may be mixed, because the
            settings of a GPU (TF32, cuDNN) do not concern the CPU.
        asked: Numerator and denominator of each ratio that is wanted.
        schedule: Budget and precision.
    """

    name: str
    cases: tuple[Case, ...]
    asked: tuple[tuple[Case, Case], ...]
    schedule: Schedule

    @property
    def budget(self) -> float:
        """Seconds of the rounds of all cases."""
        return self.schedule.budget * len(self.cases)


@dataclass(frozen=True)
class PreparedBlock:
    """A block whose cases are built, checked and ready to be sampled.

    Attributes:
        task: The block.
        settings: Case whose process-wide settings are in force while the block is sampled.
        ready: Cases that are ready.
        errors: By case, why it is not.
    """

    task: BlockTask
    settings: Case
    ready: tuple[Prepared, ...]
    errors: Mapping[Case, CnnperfError]

    @property
    def lacks_memory(self) -> bool:
        """Whether a case found no memory."""
        return any(isinstance(error, OutOfMemory) for error in self.errors.values())

    def asked(self) -> list[tuple[Case, Case]]:
        """Return the ratios that are wanted of the cases that are ready."""
        there = {one.case for one in self.ready}
        return [pair for pair in self.task.asked if there.issuperset(pair)]
