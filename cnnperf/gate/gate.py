"""The gate: from two sides to a verdict for each case, in passes of fresh processes until every case is decided.

A pass starts new workers and takes `PLACEMENTS_IN_PASS` re-instantiations of every undecided case. The remaining time
thus goes to undecided cases, and each case is measured in several processes and at several times. The base has two
workers; the difference between them is the control.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from cnnperf.errors import CnnperfError
from cnnperf.gate.lockstep import Lockstep, Placement
from cnnperf.gate.processes import CannotMeasure, Peer
from cnnperf.records.case import Case
from cnnperf.runs.verdicts import CaseVerdict, ControlFound
from cnnperf.stats.sequential import LOOKS, Judgement, Rule, confirm, control_differs, estimate, judge

BASE, CANDIDATE, CONTROL = "base", "candidate", "control"
PLACEMENTS_IN_PASS = 8
CPU_STEADINESS = 2.0  # CPU seconds replace wall seconds if wall seconds spread at least this many times as much

Start = Callable[[bool], AbstractContextManager[Mapping[str, Peer]]]
"""Starts workers for `base`, `candidate` and `control` (the base again); True preloads the compiler."""


@dataclass
class Series:
    """Samples of one case, and the judgements on them.

    Attributes:
        case: The case.
        first: Placements of the first measurement, by pass.
        second: Placements of the measurement that has to confirm an alarm, by pass.
        alarm: The judgement `slower` of the first measurement, or None.
        decided: The final judgement, or None.
    """

    case: Case
    first: list[list[Placement]] = field(default_factory=list)
    second: list[list[Placement]] = field(default_factory=list)
    alarm: Judgement | None = None
    decided: Judgement | None = None

    def add(self, placements: list[Placement], rule: Rule) -> None:
        """Add the placements of one pass, and judge the series if the number of them is one of `LOOKS`."""
        if self.alarm is None:
            self.first.append(placements)
            self._judge_first(rule.of(self.case))
        else:
            self.second.append(placements)
            self._judge_second(rule.of(self.case))

    def passes(self) -> list[list[Placement]]:
        """Return the placements of both measurements by pass."""
        return [*self.first, *self.second]

    def placements(self) -> list[Placement]:
        """Return the placements of both measurements."""
        return [placement for placements in self.passes() for placement in placements]

    @property
    def by_cpu(self) -> bool:
        """Return whether the case is judged by CPU seconds, because its wall seconds spread too much.

        Only the control, base against base, decides this, so that the candidate has no influence on the choice. CPU
        seconds do not include waiting, and therefore have to be much steadier.
        """
        passes = self.passes()
        if self.case.device_type != "cpu" or not passes:
            return False
        wall = unsteadiness(ratios(passes, CONTROL, cpu=False))
        cpu = unsteadiness(ratios(passes, CONTROL, cpu=True))
        return cpu < wall / CPU_STEADINESS

    def ratios(self, passes: Sequence[Sequence[Placement]]) -> list[list[float]]:
        """Return the log ratios of candidate over base by pass, of CPU or wall seconds as `by_cpu` says."""
        return ratios(passes, cpu=self.by_cpu)

    def end(self, rule: Rule, reason: str) -> None:
        """Set the final judgement of an undecided series to `unsure`."""
        if self.decided is None:
            several, rule = _count(self.first) > 1, rule.of(self.case)
            found = estimate(self.ratios(self.first), rule, rule.level) if several else None
            state = "a slowdown is not confirmed yet" if self.alarm else "undecided"
            self.decided = Judgement("unsure", f"{state}; {reason}", found)

    def _judge_first(self, rule: Rule) -> None:
        count = _count(self.first)
        if count not in LOOKS:
            return
        judgement = judge(self.ratios(self.first), rule)
        if judgement.verdict == "slower":
            self.alarm = judgement
        elif judgement.verdict:
            self.decided = judgement
        elif count == LOOKS[-1]:
            self.decided = Judgement("unsure", f"{judgement.reason} after {count} re-instantiations", judgement.found)

    def _judge_second(self, rule: Rule) -> None:
        count = _count(self.second)
        if count < _count(self.first) or count not in LOOKS:
            return
        confirmed = confirm(self.ratios(self.second), rule)
        if confirmed is None and count < LOOKS[-1]:
            return
        pooled = estimate(self.ratios(self.passes()), rule, rule.level)
        if confirmed:
            self.decided = Judgement("slower", "significant in two measurements", pooled)
        else:
            self.decided = Judgement("unsure", "a second measurement did not confirm the slowdown of the first", pooled)


def unsteadiness(passes: Sequence[Sequence[float]]) -> float:
    """Return the median distance of log ratios from the median of their pass."""
    return median(abs(value - median(values)) for values in passes for value in values)


def ratios(passes: Sequence[Sequence[Placement]], numerator: str = CANDIDATE, **options: Any) -> list[list[float]]:
    """Return the log ratios of a side over the base by pass; `Placement.log_ratio` has the options."""
    return [[placement.log_ratio(numerator, BASE, **options) for placement in placements] for placements in passes]


@dataclass
class Gate:
    """Measurement of cases until all are decided or the time budget is used up.

    Attributes:
        start: Starts the workers of a pass.
        rule: The sequential rule, with the tolerance.
        deadline: End of the time budget, in seconds of the clock `now`.
        settings: Arguments of `worker.Worker.build`: `input_kind`, `allocator` and `cudnn_benchmark`.
        progress: Receives lines of progress.
        now: A monotonic clock in seconds.
    """

    start: Start
    rule: Rule
    deadline: float
    settings: Mapping[str, object] = field(default_factory=dict)
    progress: Callable[[str], None] = lambda _: None
    now: Callable[[], float] = time.monotonic

    def measure(self, cases: Sequence[Case]) -> list[Series]:
        """Measure cases, and return their series in the same order.

        Raises:
            CnnperfError: If a worker dies or does not answer.
        """
        all_series = [Series(case) for case in cases]
        undecided, number = all_series, 0
        while undecided and (left := self.deadline - self.now()) > 0:
            number += 1
            self.progress(f"pass {number}: {len(undecided)} of {len(cases)} cases undecided, {left:.0f} s left")
            self._pass(undecided, number)
            undecided = [series for series in undecided if series.decided is None]
        for series in undecided:
            series.end(self.rule, "the time budget is used up; raise --time-budget or select fewer cases")
        return all_series

    def _pass(self, undecided: Sequence[Series], number: int) -> None:
        with self.start(any(series.case.compiled for series in undecided)) as peers:
            lockstep = Lockstep(peers, seed=number << 20)
            for series in undecided:
                if self.now() >= self.deadline:
                    return
                try:
                    lockstep.build(series.case.axes(), **self.settings)
                except CannotMeasure as error:
                    series.decided = Judgement("not-comparable", str(error), None)
                    continue
                series.add(list(lockstep.placements(PLACEMENTS_IN_PASS)), self.rule)
                if series.decided is not None:
                    self.progress(f"  {series.case.label()}: {series.decided.verdict}")


def verdict_of(series: Series) -> CaseVerdict:
    """Return the verdict on a decided series.

    Raises:
        CnnperfError: If the series is not decided yet.
    """
    decided = series.decided
    if decided is None:
        raise CnnperfError(f"{series.case.label()} is not decided yet")
    placements = series.placements()
    return CaseVerdict(
        case=series.case,
        verdict=decided.verdict,
        reason=f"{decided.reason}, in CPU seconds" if series.by_cpu else decided.reason,
        found=decided.found,
        base_seconds=_median_seconds(placements, BASE),
        candidate_seconds=_median_seconds(placements, CANDIDATE),
    )


def control_of(all_series: Sequence[Series], rule: Rule) -> list[ControlFound]:
    """Return the cases in which the base differs from itself; there should be none."""
    differing = []
    for series in all_series:
        passes, case_rule = ratios(series.passes(), CONTROL, cpu=series.by_cpu), rule.of(series.case)
        if control_differs(passes, case_rule):
            differing.append(ControlFound(series.case, estimate(passes, case_rule, case_rule.control_level)))
    return differing


def _median_seconds(placements: Sequence[Placement], side: str) -> float | None:
    seconds = [median(placement.wall[side]) for placement in placements]
    return median(seconds) if seconds else None


def _count(passes: Sequence[Sequence[object]]) -> int:
    return sum(map(len, passes))


def samples_of(all_series: Sequence[Series]) -> Iterator[Mapping[str, Any]]:
    """Yield the seconds of all rounds as plain JSON, one entry a case, so that another rule can be applied to them."""
    for series in all_series:
        yield {"axes": series.case.axes(), "first": _plain(series.first), "second": _plain(series.second)}


def _plain(passes: Sequence[Sequence[Placement]]) -> list[list[dict[str, Any]]]:
    return [[asdict(placement) for placement in placements] for placements in passes]
