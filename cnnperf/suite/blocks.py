"""The blocks of a run: cases that one benchmark compares, and that are therefore measured side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES


@dataclass(frozen=True)
class Block:
    """Cases that are measured side by side.

    Attributes:
        name: Name in the run file.
        cases: Cases in the order of their tests.
        tests: Full name of the test of each case.
    """

    name: str
    cases: tuple[Case, ...]
    tests: Mapping[Case, str] = field(default_factory=dict, compare=False)


def blocks_of(tests: Iterable[tuple[str, Case]]) -> dict[Case, Block]:
    """Return the block of each case.

    A block has the cases of one benchmark that differ in nothing but architecture, engine and device. Engines whose
    rounds are replays have another clock than the others, and blocks of their own; so have the parts of networks on
    each device, which are not compared between devices.

    Args:
        tests: Full name and case of each selected test; a name is that of its benchmark up to the first `[`.
    """
    members: dict[str, dict[Case, str]] = {}
    for test, case in tests:
        members.setdefault(_block_name(test.partition("[")[0], case), {}).setdefault(case, test)
    blocks: dict[Case, Block] = {}
    for name, names in members.items():
        blocks |= dict.fromkeys(names, Block(name, tuple(names), names))
    return blocks


def _block_name(benchmark: str, case: Case) -> str:
    """Return the name of the block to which a case of a benchmark belongs: the axes that its cases share."""
    shared = case.replace(architecture="", engine="eager", device=case.device if case.of_part else "")
    return f"{benchmark}[{shared.id()}{'-replayed' if ENGINES[case.engine].rotates else ''}]"
