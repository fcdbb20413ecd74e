"""Made blocks: cases that were measured side by side, with the paired ratios that a measurement would save."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from cnnperf.records.case import Case
from cnnperf.records.metrics import with_units
from cnnperf.records.rounds import Rounds
from cnnperf.records.run import CaseRecord, Over
from cnnperf.runs.forms import compared_cases
from cnnperf.stats.median import median_interval
from cnnperf.stats.paired import paired_ratio

Groups = Sequence[Sequence[float]]


def block(groups: Mapping[Case, Groups], name: str = "block") -> list[CaseRecord]:
    """Return the records of cases from the seconds of their rounds by cycle."""
    overs: dict[Case, list[Over]] = {case: [] for case in groups}
    for above, below in compared_cases(list(groups)):
        ratio = paired_ratio(groups[above], groups[below])
        overs[above].append(Over(above.difference(below), ratio))
    return [record(case, own, block=name, ratios=tuple(overs[case])) for case, own in groups.items()]


def record(case: Case, groups: Groups, **facts: object) -> CaseRecord:
    """Return the record of a case, without a block unless `facts` name one."""
    values = with_units({"latency": median_interval(groups)})
    rounds = Rounds([list(group) for group in groups])
    return CaseRecord(case, values, rounds, test=f"made::{case.id()}", **facts)


def cycles(seconds: float, count: int = 20, seed: int = 0, spread: float = 0.01) -> list[list[float]]:
    """Return the rounds of a case: three a cycle, around so many seconds."""
    generator = random.Random(f"{seed} {seconds}")
    levels = [seconds * math.exp(generator.gauss(0, spread)) for _ in range(count)]
    return [[level * factor for factor in (1.0, 0.98, 1.05)] for level in levels]
