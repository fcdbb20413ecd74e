"""The finding: a reason to distrust a number or a machine."""

from __future__ import annotations

import re

import msgspec

_LOW_IS_WORSE = frozenset({"small sample", "waiting", "launch-bound"})
"""Kinds of findings for which the smaller number in the text is the worse one."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Reason to distrust a number.

    Attributes:
        kind: Name of the check.
        seen: Observation, with its numbers.
        meaning: Effect of the observation on the measurements.
        remedy: What to do.
        severity: Rank among the findings of one kind; the larger, the worse. None for findings about the machine and in
            files that were saved before severities existed.
    """

    kind: str
    seen: str = ""
    meaning: str = ""
    remedy: str = ""
    severity: float | None = None


def with_severity(finding: Finding) -> Finding:
    """Return a finding of an old file with a severity taken from the first number of its text, the checked quantity."""
    numbers = re.findall(r"\d+(?:\.\d+)?", finding.seen)
    if finding.severity is not None or not numbers:
        return finding
    size = float(numbers[0])
    return msgspec.structs.replace(finding, severity=-size if finding.kind in _LOW_IS_WORSE else size)
