"""Tests of a benchmark run and their cases: which there are, and which of them belong to another shard.

Every pytest run of an environment imports this module, so it loads neither torch nor pandas itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

from cnnperf.suite.options import Options

if TYPE_CHECKING:
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
    plan = options.plan()
    rows = options.architectures()
    if marker.kwargs.get("own"):
        from cnnperf.models.catalog import CATALOG

        rows = [row for row in rows if row.name not in CATALOG]
    else:
        rows = [row for row in rows if row.name in marker.args]
    return [case for row in rows for case in plan.cases(row)]


def has_case(item: pytest.Item) -> bool:
    """Return whether the parameters of a test are a case."""
    parameters = getattr(item, "callspec", None)
    return parameters is not None and isinstance(parameters.params.get("architecture"), str)


def case_of(item: pytest.Item) -> Case:
    """Return the case of a test."""
    from cnnperf.records.case import AXES, Case

    parameters = cast(Any, item).callspec.params
    return Case(**{axis.name: parameters[axis.name] for axis in AXES})


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
