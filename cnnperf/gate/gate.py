"""The gate: from two sides to a verdict for each case, in passes of fresh processes until every case is decided.

A pass starts new workers, and takes some re-instantiations of every case that is not decided yet; so
what is left of the time goes to the undecided, and each case meets several processes and several moments of the
machine. The baseline runs twice, and what its two workers differ by is the control.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
STEADIER = 2.0  # times as steady as wall seconds are CPU seconds where they are judged by instead

Start = Callable[[bool], AbstractContextManager[Mapping[str, Peer]]]
"""Starts workers for `base`, `candidate` and `control`, the base again; with the compiler loaded, or without it."""


@dataclass
class Series:
    """Collect what is measured of one case, and say when it is decided.

    Attributes:
        case: The case.
        first: Placements by pass.
        second: Those of the measurement that has to confirm an alarm.
        alarm: The judgement that has to be confirmed, or None.
        decided: The final judgement, or None.
    """

    case: Case
    first: list[list[Placement]] = field(default_factory=list)
    second: list[list[Placement]] = field(default_factory=list)
    alarm: Judgement | None = None
    decided: Judgement | None = None

    def add(self, placements: list[Placement], rule: Rule) -> None:
        """Take the placements of one pass and look, where it is time to."""
        (self.first if self.alarm is None else self.second).append(placements)
        look = self._look if self.alarm is None else self._confirm
        look(rule.of(self.case))

    @property
    def by_cpu(self) -> bool:
        """Tell whether the case is judged by CPU seconds, because its wall seconds are too unsteady.

        The control tells, in which the base is compared with itself: what the candidate does has no part in the choice.
        CPU seconds do not see waiting, so that they have to be much steadier.
        """
        every = [*self.first, *self.second]
        if self.case.device_type != "cpu" or not every:
            return False
        wall, cpu = (unsteadiness(ratios(every, CONTROL, cpu=by_cpu)) for by_cpu in (False, True))
        return cpu < wall / STEADIER

    def ratios(self, passes: Sequence[Sequence[Placement]]) -> list[list[float]]:
        """Return the log ratios that the case is judged by."""
        return ratios(passes, cpu=self.by_cpu)

    def end(self, rule: Rule, reason: str) -> None:
        """End because there is no time left."""
        if self.decided is None:
            several, rule = _count(self.first) > 1, rule.of(self.case)
            found = estimate(self.ratios(self.first), rule, rule.level) if several else None
            waiting = "an alarm was not yet measured again" if self.alarm else "undecided"
            self.decided = Judgement("unsure", f"{waiting}; {reason}", found)

    def _look(self, rule: Rule) -> None:
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

    def _confirm(self, rule: Rule) -> None:
        count = _count(self.second)
        if count < _count(self.first) or count not in LOOKS:
            return
        told = confirm(self.ratios(self.second), rule)
        if told is None and count < LOOKS[-1]:
            return
        together = estimate(self.ratios([*self.first, *self.second]), rule, rule.level)
        if told:
            self.decided = Judgement("slower", "found, and found again by a second measurement", together)
        else:
            self.decided = Judgement("unsure", "an alarm that a second measurement did not confirm", together)


def unsteadiness(passes: Sequence[Sequence[float]]) -> float:
    """Return the median distance of log ratios from the median of their pass."""
    return median(abs(value - median(one)) for one in passes for value in one)


def ratios(passes: Sequence[Sequence[Placement]], numerator: str = CANDIDATE, **how: Any) -> list[list[float]]:
    """Return the log ratios to the base by pass."""
    return [[one.log_ratio(numerator, BASE, **how) for one in placements] for placements in passes]


@dataclass
class Gate:
    """Measurement of cases until all are decided or the time is over.

    Attributes:
        start: Starts the workers of a pass.
        rule: What is allowed.
        deadline: On `now`'s clock, in seconds.
        input_kind: `synthetic` or `photos`.
        allocator: Policy of CPU memory in the workers.
        tell: Takes a line of progress.
        now: A clock in seconds; tests give a scripted one.
    """

    start: Start
    rule: Rule
    deadline: float
    input_kind: str = "synthetic"
    allocator: str = "retain"
    tell: Callable[[str], None] = lambda _: None
    now: Callable[[], float] = time.monotonic

    def measure(self, cases: Sequence[Case]) -> list[Series]:
        """Measure cases.

        Raises:
            CnnperfError: If a worker dies or does not answer.
        """
        series = [Series(case) for case in cases]
        number = 0
        while (undecided := [one for one in series if one.decided is None]) and self.now() < self.deadline:
            number += 1
            self.tell(f"pass {number}: {len(undecided)} of {len(cases)} cases undecided, {self._left():.0f} s left")
            self._pass(undecided, number)
        for one in series:
            one.end(self.rule, "the time budget is used up; raise --time-budget or select fewer cases")
        return series

    def _pass(self, undecided: Sequence[Series], number: int) -> None:
        with self.start(any(one.case.compiled for one in undecided)) as peers:
            lockstep = Lockstep(peers, seed=number << 20)
            for one in undecided:
                if self.now() >= self.deadline:
                    return
                try:
                    lockstep.build(one.case.axes(), self.input_kind, self.allocator)
                except CannotMeasure as error:
                    one.decided = Judgement("not-comparable", str(error), None)
                    continue
                one.add(list(lockstep.placements(PLACEMENTS_IN_PASS)), self.rule)
                if one.decided is not None:
                    self.tell(f"  {one.case.label()}: {one.decided.verdict}")

    def _left(self) -> float:
        return max(0.0, self.deadline - self.now())


def verdict_of(series: Series) -> CaseVerdict:
    """Return what a series says, as a record for reports."""
    decided = series.decided
    if decided is None:
        raise CnnperfError(f"{series.case.label()} is not decided yet")
    every = [placement for one in (*series.first, *series.second) for placement in one]
    return CaseVerdict(
        case=series.case,
        verdict=decided.verdict,
        reason=f"{decided.reason}, in CPU seconds" if series.by_cpu else decided.reason,
        found=decided.found,
        base_seconds=_middle(every, BASE),
        candidate_seconds=_middle(every, CANDIDATE),
    )


def control_of(series: Sequence[Series], rule: Rule) -> list[ControlFound]:
    """Return the cases in which the base differs from itself, of which there should be none."""
    found = []
    for one in series:
        passes, its = ratios([*one.first, *one.second], CONTROL, cpu=one.by_cpu), rule.of(one.case)
        if control_differs(passes, its):
            found.append(ControlFound(one.case, estimate(passes, its, its.control_level)))
    return found


def _middle(placements: Sequence[Placement], side: str) -> float | None:
    seconds = [median(one.wall[side]) for one in placements]
    return median(seconds) if seconds else None


def _count(passes: Sequence[Sequence[object]]) -> int:
    return sum(map(len, passes))


def samples_of(series: Sequence[Series]) -> Iterator[Mapping[str, Any]]:
    """Yield all seconds of a gate as plain JSON, one entry a case, for whoever wants to judge them by another rule."""
    for one in series:
        yield {
            "axes": one.case.axes(),
            "first": [[{"wall": dict(p.wall), "cpu": dict(p.cpu)} for p in placements] for placements in one.first],
            "second": [[{"wall": dict(p.wall), "cpu": dict(p.cpu)} for p in placements] for placements in one.second],
        }
