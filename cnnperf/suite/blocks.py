"""The blocks of a run: cases that one benchmark compares, and that are therefore measured side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES


@dataclass(frozen=True)
class Block:
    """Cases that are measured side by side.

    Attributes:
        name: Name in the run file.
        cases: Cases in the order of their tests.
    """

    name: str
    cases: tuple[Case, ...]


def blocks_of(tests: Iterable[tuple[str, Case]]) -> dict[Case, Block]:
    """Return the block of each case.

    A block has the cases of one benchmark that differ in nothing but architecture and engine. Engines whose rounds are
    replays have another clock than the others, and blocks of their own.

    Args:
        tests: Name of the benchmark and case of each selected test.
    """
    members: dict[tuple[str, Case, bool], list[Case]] = {}
    for benchmark, case in tests:
        shared = case.replace(architecture="", engine="eager")
        cases = members.setdefault((benchmark, shared, ENGINES[case.engine].rotates), [])
        if case not in cases:
            cases.append(case)
    blocks: dict[Case, Block] = {}
    for (benchmark, shared, rotates), cases in members.items():
        name = f"{benchmark}[{shared.id()}{'-replayed' if rotates else ''}]"
        blocks |= dict.fromkeys(cases, Block(name, tuple(cases)))
    return blocks
