"""From the samples of all processes to the records of a run file. Plain numbers: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value, with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord
from cnnperf.scaling.rounds import Gathered

ORIGIN = "cnnperf.scaling"
WEAK, STRONG = "weak", "strong"


@dataclass(frozen=True)
class Arm:
    """One way to train: a number of processes, each on its own batch.

    Attributes:
        kind: `WEAK`, where each process has the batch of the one that is alone, or `STRONG`, where they share it.
        case: What each process does; `world_size` of them take part.
        communicated: Bytes that one process hands to collective operations in a step, 0 for one that is alone.
    """

    kind: str
    case: Case
    communicated: int = 0

    @property
    def name(self) -> str:
        """Return the name of its steps among the subjects."""
        return f"{self.kind} {self.case.world_size}"

    @property
    def silent(self) -> str:
        """Return the name of its steps without communication."""
        return f"{self.name} without communication"


def arms_of(case: Case, sizes: list[int]) -> list[Arm]:
    """Return the ways to train of a case of one process: alone first, then weak and strong for each larger size."""
    larger = [size for size in sizes if size > 1]
    weak = [Arm(WEAK, case.replace(world_size=size)) for size in larger]
    strong = [Arm(STRONG, case.replace(world_size=size, batch=case.batch // size)) for size in larger]
    return [Arm(WEAK, case), *weak, *strong]


def record_of(arm: Arm, alone: Arm, gathered: Gathered) -> CaseRecord:
    """Return the record of an arm.

    Args:
        arm: The arm.
        alone: The one of a single process, against which efficiency is.
        gathered: The samples of all.
    """
    return CaseRecord(
        case=arm.case,
        values=with_units(values_of(arm, alone, gathered)),
        rounds=Rounds(gathered.together.groups[arm.name]),
        stopped=gathered.together.stopped,
        ranks=_ranks(arm, gathered),
        test=f"{ORIGIN}::{arm.case.id()}",
    )


def values_of(arm: Arm, alone: Arm, gathered: Gathered) -> dict[str, Value]:
    """Return the values of an arm by metric name.

    Efficiency is the throughput of n processes over n times that of one, from rounds that ran side by side: with T the
    seconds of a step, T(1, batch) / T(n, batch) for weak scaling and T(1, batch) / (n T(n, batch / n)) for strong.

    Source: J. L. Gustafson, "Reevaluating Amdahl's Law", 1988, for the two kinds of scaling.
    """
    together, size = gathered.together, arm.case.world_size
    latency = together.latency(arm.name)
    values = {"latency": latency, "throughput": latency.scaled_inverse(size * arm.case.batch)}
    if size == 1:
        return values
    faster = together.ratio(alone.name, arm.name)
    efficiency = faster if arm.kind == WEAK else faster.scaled(1 / size)
    kept = together.ratio(arm.silent, arm.name)
    return values | {
        f"{arm.kind}_efficiency": efficiency,
        "communicated": Value(arm.communicated),
        "communication_share": Value(1 - kept.value, *_turned(kept), kept.rounds),
    }


def _ranks(arm: Arm, gathered: Gathered) -> Mapping[str, tuple[tuple[float, ...], ...]]:
    kinds = {"step": arm.name, "without_communication": arm.silent}
    of_kind = {kind: gathered.ranks[name] for kind, name in kinds.items() if name in gathered.ranks}
    return {kind: tuple(map(tuple, processes)) for kind, processes in of_kind.items()}


def _turned(value: Value) -> tuple[float | None, float | None]:
    return tuple(None if end is None else 1 - end for end in (value.high, value.low))  # type: ignore[return-value]  # two
