"""Two runs of one commit side by side: every counter equal to the last digit, and both times."""

from __future__ import annotations

from dataclasses import dataclass

from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS, Value
from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.pairs import latency_ratio, value_of


@dataclass(frozen=True)
class Difference:
    """A counter on which two runs disagree.

    Attributes:
        case: The case.
        metric: Name of the counter.
        first: Its value in the first run, None where that has none.
        second: Its value in the second run, None where that has none.
    """

    case: Case
    metric: str
    first: float | None
    second: float | None


@dataclass(frozen=True)
class Times:
    """Latency of one case in both runs, in seconds, and second over first."""

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
        times: One entry a case that both have, in the order of the first run.
        unpaired: Cases that only one run has.
    """

    counters: int
    differences: tuple[Difference, ...]
    times: tuple[Times, ...]
    unpaired: tuple[Case, ...]

    @property
    def agree(self) -> bool:
        """Tell whether both runs have the same cases with the same counters."""
        return not self.differences and not self.unpaired


def repeat_of(first: Run, second: Run) -> Repeat:
    """Compare two runs of one commit.

    Times belong to the machine and the moment and may differ; counters belong to the commit and must not.

    Raises:
        RunFileError: If the runs are of different commits, or have no case in common.
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
    names = [(case, name) for case in paired for name in _counters(ours[case], theirs[case])]
    differences = [_difference(case, name, ours[case], theirs[case]) for case, name in names]
    return Repeat(
        counters=len(names),
        differences=tuple(difference for difference in differences if difference.first != difference.second),
        times=tuple(_times(case, ours[case], theirs[case]) for case in paired),
        unpaired=tuple(case for case in (*ours, *theirs) if (case in ours) != (case in theirs)),
    )


def _counters(*records: CaseRecord) -> list[str]:
    return [name for name, metric in METRICS.items() if metric.counter and any(name in one.values for one in records)]


def _difference(case: Case, name: str, first: CaseRecord, second: CaseRecord) -> Difference:
    values = (record.values.get(name) for record in (first, second))
    return Difference(case, name, *(None if value is None else value.value for value in values))


def _times(case: Case, first: CaseRecord, second: CaseRecord) -> Times:
    return Times(case, value_of(first, "latency"), value_of(second, "latency"), latency_ratio(second, first))
