"""The finding: a reason to distrust a number, or a machine."""

from __future__ import annotations

import re

import msgspec

_LOW_IS_WORSE = frozenset({"small sample", "waiting", "launch-bound"})
"""Kinds of old findings whose text has the smaller number in the worse case."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reason to distrust a number.

    Attributes:
        kind: Name of the check that found it.
        seen: What was found, with its numbers.
        meaning: Its effect on the numbers.
        remedy: What to do.
        severity: Orders the findings of cases of one kind: the larger, the worse. None in files that were saved before
            findings had one, and for the machine.
    """

    kind: str
    seen: str = ""
    meaning: str = ""
    remedy: str = ""
    severity: float | None = None


def with_severity(finding: Finding) -> Finding:
    """Return a finding of an old file with its severity: the first number of its text, which is what was checked."""
    numbers = re.findall(r"\d+(?:\.\d+)?", finding.seen)
    if finding.severity is not None or not numbers:
        return finding
    size = float(numbers[0])
    return msgspec.structs.replace(finding, severity=-size if finding.kind in _LOW_IS_WORSE else size)
