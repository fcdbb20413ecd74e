"""Pairs of cases of one run that differ in one thing, and the shares of costs that improvements recover."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.runs.ratios import Cases, Ratio, Ratios, value_of
from cnnperf.stats.paired import paired_share
from cnnperf.stats.ratio import ratio, recovered_share, total
from cnnperf.stats.simultaneous import ABOVE, BELOW

ENGINE, DEVICE, PART = "engine", "device", "cost"
"""Kinds of pairs: two engines, two devices, or two networks that differ in one part."""

FASTER, SLOWER = "faster", "slower"
"""Verdicts on the subject of a pair; `same`, `unsure` and `unknown` are those on its ratio."""


@dataclass(frozen=True)
class Question:
    """Two architectures that differ in one part, whose cost is the ratio of their latencies.

    Attributes:
        title: Name of the part.
        candidate: Architecture with the part.
        baseline: Architecture without it.
    """

    title: str
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Recovery:
    """Three architectures that show how much of the cost of a part an improvement recovers.

    Attributes:
        title: Description of the share.
        plain: Architecture without the part.
        costly: Architecture with it.
        improved: Architecture that computes the same as `costly`, faster.
    """

    title: str
    plain: str
    costly: str
    improved: str


QUESTIONS = (
    Question("Squeeze-and-Excitation", "se_resnet18", "resnet18"),
    Question("identity shortcuts", "residual_stack", "plain_stack"),
    Question("max instead of average pooling", "lenet5", "lenet5_avg"),
    Question("fused instead of textbook Squeeze-and-Excitation", "se_resnet18_fused", "se_resnet18"),
)
RECOVERIES = (
    Recovery(
        "share of Squeeze-and-Excitation's cost that fusion recovers", "resnet18", "se_resnet18", "se_resnet18_fused"
    ),
)


@dataclass(frozen=True)
class CasePair:
    """Two cases that differ in one thing.

    Attributes:
        kind: `ENGINE`, `DEVICE` or `PART`.
        subject: The case with the other engine, on CUDA, or with the part.
        numerator: Case whose latency is divided.
        denominator: Case by whose latency it is divided.
        question: Question of a `PART`; else None.
    """

    kind: str
    subject: Case
    numerator: Case
    denominator: Case
    question: Question | None = None


@dataclass(frozen=True)
class Pair:
    """Two cases that differ in one thing, and the ratio of their latencies.

    Attributes:
        cases: The two cases.
        ratio: The ratio.
    """

    cases: CasePair
    ratio: Ratio

    @property
    def kind(self) -> str:
        """`ENGINE`, `DEVICE` or `PART`."""
        return self.cases.kind

    @property
    def subject(self) -> Case:
        """The case with the other engine, on CUDA, or with the part."""
        return self.cases.subject

    @property
    def verdict(self) -> str:
        """Verdict on the subject: `faster`, `slower`, `same`, `unsure` or `unknown`."""
        above, below = (SLOWER, FASTER) if self.subject == self.ratio.numerator else (FASTER, SLOWER)
        return {ABOVE: above, BELOW: below}.get(self.ratio.verdict, self.ratio.verdict)


@dataclass(frozen=True)
class Share:
    """Share of a cost that an improvement recovers.

    Attributes:
        recovery: The three architectures.
        subject: Case of the improved one.
        share: The share with its interval; NaN where the part has no visible cost.
        paired: Whether the three cases were measured side by side.
    """

    recovery: Recovery
    subject: Case
    share: Value
    paired: bool

    @property
    def sure(self) -> bool:
        """Whether the interval excludes 0."""
        return bool(self.share.low and self.share.high and self.share.low * self.share.high > 0)


def ratio_with_copy(on_cpu: CaseRecord, on_cuda: CaseRecord, copy: str) -> Value:
    """Return the latency on the CPU over that on CUDA plus the time of a copy, given by its metric."""
    seconds = total(value_of(on_cuda, "latency"), value_of(on_cuda, copy))
    return ratio(value_of(on_cpu, "latency"), seconds)


def copy_share(record: CaseRecord, copy: str) -> Value:
    """Return the time of a copy, given by its metric, over the latency of a call without it."""
    return ratio(value_of(record, copy), value_of(record, "latency"))


def queued_latency(record: CaseRecord) -> Value:
    """Return the seconds of a call among many in the queue of the device."""
    images = float(record.case.batch)
    return ratio(Value(images, images, images), value_of(record, "queued_throughput"))


def counterpart(case: Case, kind: str) -> Case | None:
    """Return the case that a case is compared with: in eager mode (`ENGINE`), or on the CPU (`DEVICE`)."""
    if kind == ENGINE:
        return None if case.engine == "eager" else case.replace(engine="eager")
    return case.replace(device="cpu") if case.device_type == "cuda" else None


def pairs_of(cases: Collection[Case], ratios: Ratios) -> tuple[Pair, ...]:
    """Return the pairs of some cases of a run, which are among its ratios: engines, then devices, then parts."""
    return tuple(Pair(two, ratios[two.numerator, two.denominator]) for two in case_pairs_of(cases))


def case_pairs_of(cases: Collection[Case]) -> Iterator[CasePair]:
    """Yield the pairs of networks to compare: engines, then devices, then costs; `forms` has those of parts."""
    networks = [case for case in cases if not case.of_part]
    yield from _engines(networks)
    yield from _devices(networks)
    yield from _parts(networks)


def shares_of(cases: Cases) -> tuple[Share, ...]:
    """Return the shares of costs that improvements recover."""
    shares = []
    for recovery in RECOVERIES:
        for case in cases:
            names = (recovery.plain, recovery.costly, recovery.improved)
            three = [cases[each] for name in names if (each := case.replace(architecture=name)) in cases]
            if case.architecture == recovery.improved and len(three) == len(names):
                shares.append(_share(recovery, *three))
    return tuple(shares)


def _share(recovery: Recovery, plain: CaseRecord, costly: CaseRecord, improved: CaseRecord) -> Share:
    """Return a share from the cycles of three cases, or from their medians where they have no cycles in common.

    Where several processes measured the block, each with its three medians is one datum.
    """
    three = (plain, costly, improved)
    side_by_side = plain.block and plain.block == costly.block == improved.block
    if side_by_side and plain.processes and len({len(record.processes) for record in three}) == 1:
        medians_of_processes = ([[seconds] for seconds in record.processes] for record in three)
        return Share(recovery, improved.case, paired_share(*medians_of_processes), paired=True)
    if side_by_side and plain.groups and len({len(record.groups) for record in three}) == 1:
        return Share(recovery, improved.case, paired_share(*(record.groups for record in three)), paired=True)
    medians = (value_of(record, "latency") for record in three)
    return Share(recovery, improved.case, recovered_share(*medians), paired=False)


def _engines(cases: Collection[Case]) -> Iterator[CasePair]:
    """Compare every engine with eager, or with the first one where a case was not measured in eager mode."""
    first: dict[Case, Case] = {}
    for case in cases:
        first.setdefault(case.replace(engine="eager"), case)
    present = frozenset(cases)
    for case in cases:
        eager = case.replace(engine="eager")
        reference = eager if eager in present else first[eager]
        if case != reference:
            yield CasePair(ENGINE, case, reference, case)


def _devices(cases: Collection[Case]) -> Iterator[CasePair]:
    present = frozenset(cases)
    for case in cases:
        on_cpu = counterpart(case, DEVICE)
        if on_cpu in present:
            yield CasePair(DEVICE, case, on_cpu, case)


def _parts(cases: Collection[Case]) -> Iterator[CasePair]:
    present = frozenset(cases)
    for question in QUESTIONS:
        for case in cases:
            baseline = case.replace(architecture=question.baseline)
            if case.architecture == question.candidate and baseline in present:
                yield CasePair(PART, case, case, baseline, question)
