"""Division of a suite among machines: each case goes to one machine, and all machines take about equally long."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cnnperf.errors import OptionError
from cnnperf.records.case import Case

MOST_SHARDS = 1000


@dataclass(frozen=True)
class Shard:
    """One of several parts of a suite; `number` counts from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        """Return the text that `parse_shard` takes, such as `2/5`."""
        return f"{self.number}/{self.count}"


def parse_shard(text: str, option: str = "--cnnperf-shard") -> Shard:
    """Parse a shard such as `2/5`.

    Raises:
        OptionError: If the number is not from 1 to the count, or the count is above `MOST_SHARDS`.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count <= MOST_SHARDS:
        raise OptionError(
            f"{option} takes the number of a shard and how many there are, from 1/1 to {MOST_SHARDS}/{MOST_SHARDS}, "
            f"such as 2/5; not {text!r}"
        )
    return Shard(number, count)


def assign(blocks: Iterable[Sequence[Case]], seconds: Mapping[Case, float], count: int) -> dict[Case, int]:
    """Return the number of each case's shard, counted from 1.

    Blocks are taken from the longest to the shortest, and each goes to the shard with the least work so far. The
    longest shard takes at most 4/3 of the best possible time (Graham, "Bounds on Multiprocessing Timing Anomalies",
    SIAM Journal on Applied Mathematics 17, 1969, https://doi.org/10.1137/0117039, theorem 2). The order of `blocks`
    does not matter.

    Args:
        blocks: All cases of the suite, those together that are measured side by side. A case counts where it is first.
        seconds: Seconds that each case took when it was measured. A case without any counts as the mean of the cases of
            its engine, or of all cases.
        count: Number of shards.
    """
    whole = list(blocks)
    weights = _weights(list(dict.fromkeys(case for block in whole for case in block)), seconds)
    loads = dict.fromkeys(range(1, count + 1), 0.0)
    shards: dict[Case, int] = {}

    def heaviest_first(block: Sequence[Case]) -> tuple[float, str]:
        return -math.fsum(weights[case] for case in block), block[0].id()

    for block in sorted(whole, key=heaviest_first):
        lightest = min(loads, key=lambda number: (loads[number], number))
        for case in block:
            if case not in shards:
                shards[case] = lightest
                loads[lightest] += weights[case]
    return shards


def digest(cases: Iterable[Case]) -> str:
    """Return a hash of a set of cases, which does not depend on their order."""
    return hashlib.sha256("\n".join(sorted({case.id() for case in cases})).encode()).hexdigest()[:16]


def _weights(cases: list[Case], seconds: Mapping[Case, float]) -> dict[Case, float]:
    known = {case: value for case, value in seconds.items() if math.isfinite(value) and value > 0}
    return {case: known.get(case) or _guess(case, known) for case in cases}


def _guess(case: Case, known: Mapping[Case, float]) -> float:
    alike = [value for other, value in known.items() if other.engine == case.engine]
    return fmean(alike or known.values()) if known else 1.0
