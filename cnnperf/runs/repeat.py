"""Two runs of one commit compared: counters must be equal to the last digit, times are shown side by side."""

from __future__ import annotations

from dataclasses import dataclass

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.run import Run
from cnnperf.runs.ratios import value_of
from cnnperf.stats.ratio import ratio


@dataclass(frozen=True)
class Difference:
    """Counter that differs between two runs.

    Attributes:
        case: The case.
        metric: Name of the counter.
        first: Value in the first run, or None.
        second: Value in the second run, or None.
    """

    case: Case
    metric: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Times:
    """Latency of one case in both runs in seconds, and second over first."""

    case: Case
    first: Value
    second: Value
    ratio: Value


@dataclass(frozen=True)
class Repeat:
    """Agreement of two runs on the same cases.

    Attributes:
        counters: Number of counters that were compared.
        differences: Counters that are not equal to the last digit, or that only one run has.
        times: Times of each case of both runs, in the order of the first run.
        unpaired: Cases that only one run has.
    """

    counters: int
    differences: tuple[Difference, ...]
    times: tuple[Times, ...]
    unpaired: tuple[Case, ...]

    @property
    def agree(self) -> bool:
        """Whether both runs have the same cases with the same counters."""
        return not self.differences and not self.unpaired


def repeat_of(first: Run, second: Run) -> Repeat:
    """Compare two runs of one commit.

    Times depend on the machine and the moment and may differ; counters depend on the commit and must not.

    Raises:
        RunFileError: If the runs have different commits, or no case in common.
    """
    if first.commit != second.commit:
        raise RunFileError(
            f"the runs are of two commits, {first.commit or 'unknown'} and {second.commit or 'unknown'}; counters need "
            "not agree across commits, run the benchmarks twice on one"
        )
    ours, theirs = ({record.case: record for record in run.cases} for run in (first, second))
    paired = [case for case in ours if case in theirs]
    if not paired:
        raise RunFileError("the runs have no case in common; run both with the same options")
    counters: list[Difference] = []
    times: list[Times] = []
    for case in paired:
        for name, metric in METRICS.items():
            values = [side.values.get(name) for side in (ours[case], theirs[case])]
            if metric.counter and any(value is not None for value in values):
                before, after = (None if value is None else value.value for value in values)
                counters.append(Difference(case, name, before, after))
        quotient = ratio(value_of(theirs[case], "latency"), value_of(ours[case], "latency"))
        times.append(Times(case, value_of(ours[case], "latency"), value_of(theirs[case], "latency"), quotient))
    return Repeat(
        counters=len(counters),
        differences=tuple(counter for counter in counters if counter.first != counter.second),
        times=tuple(times),
        unpaired=tuple(case for case in (*ours, *theirs) if (case in ours) != (case in theirs)),
    )
