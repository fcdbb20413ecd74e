"""Result of the measurement of one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cnnperf.measure.sampler import Samples
from cnnperf.records.case import Case
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, Over
from cnnperf.stats.paired import paired_ratio


@dataclass(frozen=True)
class Measured:
    """Result of the measurement of one case.

    Attributes:
        case: The case.
        values: Values by the names of their metrics.
        samples: The readings.
        findings: Reasons to distrust the values.
        compile_seconds: Seconds spent compiling; not part of the harness's own time.
        duration: Seconds that the case took, from building its network to its last round.
        processes: Median seconds of one call in each process that timed the case, this process first.
        block: Name of the block whose cases were measured side by side; empty for a case alone.
        ratios: Paired ratios to other cases of the block.
    """

    case: Case
    values: Mapping[str, Value]
    samples: Samples
    findings: list[Finding]
    compile_seconds: float
    duration: float = 0.0
    processes: tuple[float, ...] = ()
    block: str = ""
    ratios: tuple[Over, ...] = ()

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
            seconds=self.duration,
            stopped=self.samples.stopped,
            test=test,
            block=self.block,
            ratios=self.ratios,
        )

    def timed_seconds(self) -> float:
        """Return the seconds of all rounds with their set-ups, which are a metric of the phase `backward`."""
        return self.samples.calls * sum(reading.wall + reading.setup for reading in self.samples.flat())

    def over(self, *others: Measured) -> Measured:
        """Return the result with its paired ratios to other cases of the block, from the cycles that both have."""
        ours = self.samples.wall()
        ratios = []
        for other in others:
            theirs = other.samples.wall()
            cycles = min(len(ours), len(theirs))
            ratio = paired_ratio(ours[:cycles], theirs[:cycles])
            ratios.append(Over(self.case.difference(other.case), ratio))
        return replace(self, ratios=tuple(ratios))
