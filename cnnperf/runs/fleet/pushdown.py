"""Selections as conditions that pyarrow applies to files, row groups and rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING

from cnnperf.records.case import AXIS_BY_NAME
from cnnperf.runs.selection import Selection, Value

if TYPE_CHECKING:
    from pyarrow.compute import Expression

_LAST = "\U0010ffff"  # sorts after every continuation of a text


def selected(selection: Selection) -> Expression:
    """Return the condition for the selected rows of the frame."""
    from pyarrow import compute

    return reduce(and_, _conditions(selection), compute.field("metric").is_valid())


def of_history(metrics: Sequence[str], pattern: str, selection: Selection) -> Expression:
    """Return the condition for measured values of metrics; it may also hold for cases that the glob does not match."""
    from pyarrow import compute

    measured = (compute.field("test") == "") & (compute.field("reason") == "")
    wanted = compute.field("metric").isin(list(metrics))
    return reduce(and_, _conditions(selection), measured & wanted & _may_fit(pattern))


def _conditions(selection: Selection) -> Iterator[Expression]:
    import pyarrow as pa
    from pyarrow import compute

    for name, values in selection.where.items():
        yield _is_one_of(name, values)
    if selection.since is not None:
        yield compute.field("time") >= pa.scalar(selection.since, pa.timestamp("us", "UTC"))
    if selection.until is not None:
        yield compute.field("time") < pa.scalar(selection.until, pa.timestamp("us", "UTC"))


def _is_one_of(name: str, values: tuple[Value, ...]) -> Expression:
    """Return the condition for a column; an axis that a file lacks has its default."""
    import pyarrow as pa
    from pyarrow import compute

    whole = name in AXIS_BY_NAME and AXIS_BY_NAME[name].type is int
    condition = compute.field(name).isin(pa.array(values, pa.int64() if whole else pa.string()))
    if name in AXIS_BY_NAME and AXIS_BY_NAME[name].default in values:
        condition |= compute.field(name).is_null() & (compute.field("test") == "")
    return condition


def _may_fit(pattern: str) -> Expression:
    """Return a condition on the architecture, with which the label of a case begins."""
    from pyarrow import compute

    architecture = compute.field("architecture")
    literal = re.match(r"[^*?\[]*", pattern)[0]  # type: ignore[index]  # it fits any text
    if literal == pattern or " " in literal:
        return architecture == literal.partition(" ")[0]
    return (architecture >= literal) & (architecture < f"{literal}{_LAST}")
