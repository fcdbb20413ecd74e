"""Every ratio between the cases of one run as data: what it asks, which cases it compares, value, interval, verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.stats.ratio import ratio, recovered_share, sees_difference
from cnnperf.units import format_factor

ABOVE, BELOW, UNSURE, UNKNOWN = "above", "below", "unsure", "unknown"
"""Verdicts on a ratio: its interval lies above 1 or below 1, includes 1, or does not exist."""

ENGINE, DEVICE, PART = "engine", "device", "cost"
"""Kinds of questions: two engines, two devices, or two networks that differ in one part."""

Cases = Mapping[Case, CaseRecord]


@dataclass(frozen=True)
class Question:
    """A question about a part: its cost is the ratio of two architectures that differ in it alone.

    Attributes:
        title: The part.
        candidate: The architecture that has it.
        baseline: The architecture that does without.
    """

    title: str
    candidate: str
    baseline: str


@dataclass(frozen=True)
class Recovery:
    """A question about an improvement: how much of the cost of a part it takes back.

    Attributes:
        title: What is taken back.
        plain: The architecture without the part.
        costly: The architecture with it.
        improved: The architecture that computes the same for less.
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
class Pair:
    """Two cases that differ in one thing, and the ratio of their latencies.

    Attributes:
        kind: `ENGINE`, `DEVICE` or `PART`.
        subject: The case that the question is about: the other engine, the case on CUDA, the network with the part.
        numerator: Case whose latency is divided.
        denominator: Case by whose latency it is divided.
        ratio: With its interval.
        question: Of a part; else None.
    """

    kind: str
    subject: Case
    numerator: Case
    denominator: Case
    ratio: Value
    question: Question | None = None

    @property
    def verdict(self) -> str:
        """`ABOVE`, `BELOW`, `UNSURE` or `UNKNOWN`."""
        return verdict_on(self.ratio)


@dataclass(frozen=True)
class Share:
    """The share of a cost that an improvement takes back.

    Attributes:
        recovery: The question.
        subject: The improved case.
        share: With its interval; NaN where no cost was seen that could be recovered.
    """

    recovery: Recovery
    subject: Case
    share: Value

    @property
    def sure(self) -> bool:
        """Whether the interval excludes 0."""
        return bool(self.share.low and self.share.high and self.share.low * self.share.high > 0)


def pairs_of(cases: Cases) -> tuple[Pair, ...]:
    """Return the ratios of latencies between the cases of a run: engines, then devices, then parts."""
    return (*_engines(cases), *_devices(cases), *_parts(cases))


def shares_of(cases: Cases) -> tuple[Share, ...]:
    """Return the shares of costs that improvements take back."""
    return tuple(share for recovery in RECOVERIES for case in cases for share in _shares(cases, recovery, case))


def _shares(cases: Cases, recovery: Recovery, case: Case) -> Iterator[Share]:
    names = (recovery.plain, recovery.costly, recovery.improved)
    three = [case.replace(architecture=name) for name in names]
    if case.architecture == recovery.improved and all(one in cases for one in three):
        yield Share(recovery, case, recovered_share(*(_latency(cases, one) for one in three)))


def verdict_on(quotient: Value) -> str:
    """Return the verdict on a ratio; an interval that ends at a number written as 1.00 includes 1."""
    if math.isnan(quotient.value) or quotient.low is None or quotient.high is None:
        return UNKNOWN
    if not sees_difference(quotient) or format_factor(1.0) in map(format_factor, (quotient.low, quotient.high)):
        return UNSURE
    return ABOVE if quotient.value > 1 else BELOW


def _engines(cases: Cases) -> Iterator[Pair]:
    """Compare every engine with eager, or with the first one where a case was not measured in eager mode."""
    engines: dict[Case, list[Case]] = {}
    for case in cases:
        engines.setdefault(case.replace(engine="eager"), []).append(case)
    for case in cases:
        eager = case.replace(engine="eager")
        reference = eager if eager in cases else engines[eager][0]
        if case != reference:
            yield _pair(cases, ENGINE, case, reference, case)


def _devices(cases: Cases) -> Iterator[Pair]:
    for case in cases:
        if case.device_type == "cuda" and (on_cpu := case.replace(device="cpu")) in cases:
            yield _pair(cases, DEVICE, case, on_cpu, case)


def _parts(cases: Cases) -> Iterator[Pair]:
    for question in QUESTIONS:
        for case in cases:
            baseline = case.replace(architecture=question.baseline)
            if case.architecture == question.candidate and baseline in cases:
                yield _pair(cases, PART, case, case, baseline, question)


def _pair(
    cases: Cases, kind: str, subject: Case, numerator: Case, denominator: Case, question: Question | None = None
) -> Pair:
    quotient = ratio(_latency(cases, numerator), _latency(cases, denominator))
    return Pair(kind, subject, numerator, denominator, quotient, question)


def _latency(cases: Cases, case: Case) -> Value:
    return cases[case].values.get("latency", Value(math.nan))
