"""The finding: a reason to distrust a number, or a machine."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """A reason to distrust a number.

    Attributes:
        kind: Name of the check that found it.
        seen: What was found, with its numbers.
        meaning: Its effect on the numbers.
        remedy: What to do.
    """

    kind: str
    seen: str = ""
    meaning: str = ""
    remedy: str = ""
