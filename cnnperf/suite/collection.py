"""Tests of a benchmark run and their cases: which there are, and which of them belong to another shard.

Every pytest run of an environment imports this module, so it loads neither torch nor pandas itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cnnperf.suite.options import Options

CASE = "cnnperf_case"
"""Name of the fixture and parameter of a test that measures a case."""

if TYPE_CHECKING:
    from cnnperf.models.architecture import Architecture
    from cnnperf.records.case import Case
    from cnnperf.records.shards import Shard


def cases_of(options: Options, marker: pytest.Mark) -> list[Case]:
    """Return the cases of a benchmark with the marker `cnnperf`.

    Raises:
        OptionError: If an option does not fit the architectures.
    """
    if part := marker.kwargs.get("part"):
        from cnnperf.suite.parts import part_cases

        return part_cases(options, part)
    from cnnperf.models.catalog import CATALOG

    plan, own = options.plan(), marker.kwargs.get("own")
    rows = [*options.architectures(), *_brought(options, marker)]
    chosen = [row for row in rows if (own and row.name not in CATALOG) or _is_marked(row.name, marker)]
    return [case for row in dict.fromkeys(chosen) for case in plan.cases(row)]


def _is_marked(name: str, marker: pytest.Mark) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in marker.args)


def _brought(options: Options, marker: pytest.Mark) -> list[Architecture]:
    """Return the user's networks that a marker names, `package.module:factory`, as far as the options select them.

    Raises:
        OptionError: If one of them cannot be built, or fails in a trial call.
    """
    from cnnperf.measure.classes import count_classes
    from cnnperf.models.catalog import resolve

    names = [name for name in marker.args if ":" in name]
    if options.patterns:
        names = [name for name in names if any(fnmatchcase(name, pattern) for pattern in options.patterns)]
    rows = [resolve(name) for name in names]
    for row in rows:
        for size in {case.image_size for case in options.plan().cases(row)}:
            count_classes(row, size)
    return rows


def is_named(config: pytest.Config, folder: Path) -> bool:
    """Return whether the command line of pytest names a folder, or something in it.

    Benchmarks take minutes, so that they should not run with the tests, for which `pytest` is called without a path.
    """
    for argument in config.invocation_params.args:
        place = Path(str(argument).partition("::")[0])
        with suppress(OSError):  # an option longer than the name of a file may be
            if place.exists() and place.resolve().is_relative_to(folder.resolve()):
                return True
    return False


def has_case(item: pytest.Item) -> bool:
    """Return whether the parameters of a test are a case."""
    from cnnperf.records.case import Case

    parameters = getattr(item, "callspec", None)
    return parameters is not None and isinstance(parameters.params.get(CASE), Case)


def case_of(item: pytest.Item) -> Case:
    """Return the case of a test."""
    case: Case = cast(Any, item).callspec.params[CASE]
    return case


def other_shards(
    items: Sequence[pytest.Item], shard: Shard, durations: Mapping[Case, float]
) -> tuple[list[pytest.Item], str]:
    """Return the tests that belong to other shards, and the digest of all cases; a block is in one shard.

    Args:
        items: All tests with a case.
        shard: The shard of this run.
        durations: Seconds that cases took before, by which shards are balanced.
    """
    from cnnperf.records.shards import assign, digest
    from cnnperf.suite.blocks import blocks_of

    cases = [case_of(item) for item in items]
    blocks = blocks_of((item.nodeid, case) for item, case in zip(items, cases, strict=True))
    shards = assign([block.cases for block in dict.fromkeys(blocks.values())], durations, shard.count)
    elsewhere = [item for item, case in zip(items, cases, strict=True) if shards[case] != shard.number]
    return elsewhere, digest(cases)
