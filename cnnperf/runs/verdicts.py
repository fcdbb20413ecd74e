"""Results of a comparison as plain records, and the exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnperf.exit_status import ExitStatus
from cnnperf.records.case import Case
from cnnperf.records.metrics import METRICS
from cnnperf.stats.sequential import Estimate, Rule

_TF32, _BF16, _FP16 = 1e-2, 3e-2, 1e-2
TOLERANCE: Mapping[str, float] = {"fp32": 1e-4, "conv_tf32": _TF32, "tf32": _TF32, "bf16": _BF16, "fp16": _FP16} | {
    "amp": _BF16,
    "amp_fp16": _FP16,
}
"""By precision, the largest distance of equal results: that of their fingerprints relative to their norm."""

Fingerprints = Mapping[str, Sequence[float]]
"""By result, its norm and its dot product with a fixed direction."""


@dataclass(frozen=True)
class CaseVerdict:
    """Verdict on the time of one case.

    Attributes:
        case: The case.
        verdict: `faster`, `same`, `slower`, `unsure`, `new`, `gone` or `not-comparable`.
        reason: Reason in words.
        found: Log ratio of candidate over base with its interval, or None where nothing was measured.
        base_seconds: Median of the base, or None.
        candidate_seconds: Median of the candidate, or None.
    """

    case: Case
    verdict: str
    reason: str
    found: Estimate | None = None
    base_seconds: float | None = None
    candidate_seconds: float | None = None


@dataclass(frozen=True)
class ControlFound:
    """Case in which the base differs from itself."""

    case: Case
    found: Estimate


@dataclass(frozen=True)
class CounterChange:
    """Counter or result that differs between the sides.

    Attributes:
        case: The case.
        name: Name of the counter; `output` or `gradient of NAME` for a result.
        before: Value of the base; for a result its norm. None where the base has none.
        after: Value of the candidate.
        kind: `worse`, `better` or `changed`.
        accepted: Whether the user allowed it to change.
    """

    case: Case
    name: str
    before: float | None
    after: float | None
    kind: str
    accepted: bool = False


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes:
        base: Label of the base.
        candidate: Label of the candidate.
        rule: Rule of the verdicts.
        cases: Verdicts on the times of the cases.
        control: Cases in which the base differs from itself; if there is one, verdicts on time do not count.
        counted: Number of cases whose counters were compared.
        counters: Counters and results that differ.
        wrong: By label of a case, why its candidate gives wrong results while its base does not.
        seconds: Duration of measuring; 0 for saved runs.
        environment: Facts in which the environments differ, base first.
        paired: Whether both sides were measured in turns.
    """

    base: str
    candidate: str
    rule: Rule
    cases: tuple[CaseVerdict, ...]
    control: tuple[ControlFound, ...] = ()
    counted: int = 0
    counters: tuple[CounterChange, ...] = ()
    wrong: Mapping[str, str] | None = None
    seconds: float = 0.0
    environment: Mapping[str, tuple[object, object]] = field(default_factory=dict)
    paired: bool = True

    @property
    def withdrawn(self) -> bool:
        """Whether the base differs from itself."""
        return bool(self.control)

    def of(self, verdict: str) -> list[CaseVerdict]:
        """Return the cases with a verdict."""
        return [case for case in self.cases if case.verdict == verdict]

    def status(self) -> int:
        """Return 1 where anything is surely worse, 3 where something is undecided, and 0 otherwise."""
        counters = any(change.kind == "worse" and not change.accepted for change in self.counters)
        if counters or self.wrong or (self.of("slower") and not self.withdrawn):
            return ExitStatus.FAILED
        undecided = any(self.of(verdict) for verdict in ("unsure", "not-comparable", "gone"))
        nothing = not self.counted and all(case.verdict in {"new", "gone"} for case in self.cases)
        return ExitStatus.UNSURE if undecided or self.withdrawn or nothing else ExitStatus.OK


def counter_changes(case: Case, before: Mapping[str, float], after: Mapping[str, float]) -> list[CounterChange]:
    """Compare the counters of one case exactly.

    A counter that only one side has is `changed`: the sides count different things.
    """
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return [CounterChange(case, name, old, new, _kind(name, old, new)) for name, old, new in pairs if old != new]


def fingerprint_changes(case: Case, before: Fingerprints, after: Fingerprints) -> list[CounterChange]:
    """Compare the results of one case within the tolerance of its precision; of gradients the furthest is reported."""
    tolerance = TOLERANCE[case.precision]
    names = [*before, *(name for name in after if name not in before)]
    distances = {name: _distance(before.get(name), after.get(name)) for name in names}
    far = [name for name in names if not distances[name] <= tolerance]  # so that NaN is far
    changes = []
    for group in ([name for name in far if name == "output"], [name for name in far if name != "output"]):
        if group:
            worst = max(group, key=lambda name: distances[name])
            others = f" and {len(group) - 1} others" if len(group) > 1 else ""
            old, new = (side[worst][0] if worst in side else None for side in (before, after))
            changes.append(CounterChange(case, f"{worst}{others}", old, new, "changed"))
    return changes


def _distance(before: Sequence[float] | None, after: Sequence[float] | None) -> float:
    if before is None or after is None:
        return float("inf")
    scale = max(abs(before[0]), abs(after[0])) or 1.0
    return max(abs(old - new) for old, new in zip(before, after, strict=True)) / scale


def _kind(name: str, before: float | None, after: float | None) -> str:
    better = METRICS[name].better if name in METRICS else "neither"
    if before is None or after is None or better == "neither":
        return "changed"
    return "worse" if (after > before) == (better == "lower") else "better"
