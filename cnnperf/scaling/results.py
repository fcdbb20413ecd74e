"""From the samples of all processes to the records of a run file."""

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
        kind: `WEAK` if each process has the whole batch of a single process, `STRONG` if the processes share it.
        case: The case of each process; `world_size` processes take part.
        communicated: Bytes that one process passes to collective operations in a step; 0 for a single process.
    """

    kind: str
    case: Case
    communicated: int = 0

    @property
    def name(self) -> str:
        """Return the name of the steps as a subject of sampling."""
        return f"{self.kind} {self.case.world_size}"

    @property
    def silent(self) -> str:
        """Return the name of the steps without communication."""
        return f"{self.name} without communication"


def arms_of(case: Case, sizes: list[int]) -> list[Arm]:
    """Return the ways to train a case: on one process, then weak and then strong on each larger number of processes."""
    larger = [size for size in sizes if size > 1]
    weak = [Arm(WEAK, case.replace(world_size=size)) for size in larger]
    strong = [Arm(STRONG, case.replace(world_size=size, batch=case.batch // size)) for size in larger]
    return [Arm(WEAK, case), *weak, *strong]


def record_of(arm: Arm, alone: Arm, gathered: Gathered) -> CaseRecord:
    """Return the record of an arm.

    Args:
        arm: The arm.
        alone: The arm of a single process, to which efficiency is relative.
        gathered: The samples of all processes.
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

    Efficiency is the throughput of n processes over n times that of one, from rounds in turns: with T(n, batch) the
    seconds of a step, it is T(1, batch) / T(n, batch) for weak and T(1, batch) / (n T(n, batch / n)) for strong
    scaling. The share of communication is 1 minus the ratio of a step without communication to a step with it.

    Source: J. L. Gustafson, "Reevaluating Amdahl's Law", 1988, for the two kinds of scaling.
    """
    together, size = gathered.together, arm.case.world_size
    latency = together.latency(arm.name)
    values = {"latency": latency, "throughput": latency.scaled_inverse(size * arm.case.batch)}
    if size == 1:
        return values
    speedup = together.ratio(alone.name, arm.name)
    efficiency = speedup if arm.kind == WEAK else speedup.scaled(1 / size)
    return values | {
        f"{arm.kind}_efficiency": efficiency,
        "communicated": Value(arm.communicated),
        "communication_share": _complement(together.ratio(arm.silent, arm.name)),
    }


def _ranks(arm: Arm, gathered: Gathered) -> Mapping[str, tuple[tuple[float, ...], ...]]:
    """Return the seconds of the rounds of each process, by kind of step and rank."""
    ranks = {}
    for kind, name in (("step", arm.name), ("without_communication", arm.silent)):
        if name in gathered.ranks:
            ranks[kind] = tuple(tuple(seconds) for seconds in gathered.ranks[name])
    return ranks


def _complement(value: Value) -> Value:
    """Return 1 minus a value, with its interval."""
    low = None if value.high is None else 1 - value.high
    high = None if value.low is None else 1 - value.low
    return Value(1 - value.value, low, high, value.rounds)
