"""The tolerance of a comparison, and parsing of percentages in options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.records.case import Case

DEFAULT_TOLERANCE = "5%"
"""Tolerance if no option sets another."""

TOLERANCE_HELP = (
    "largest acceptable slowdown (default: 5%); a significant slowdown of at least half of it fails. For some cases: "
    "'se_*=3%' names architectures, '* train *=8%' words of a case; repeatable, the last that fits counts"
)


@dataclass(frozen=True)
class Tolerance:
    """Largest acceptable slowdown of all cases, with exceptions for cases that match a glob.

    Attributes:
        general: Fraction: 0.05 is 5 %.
        overrides: Globs for architectures or labels of cases, each with its fraction; the last that matches counts.
    """

    general: float = 0.05
    overrides: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the fraction.

        Raises:
            CnnperfError: If it is not a finite number above 0.
        """
        if not 0 < self.general < math.inf:
            raise CnnperfError(f"a tolerance is a fraction above 0 such as 0.05, not {self.general:g}")

    def of(self, case: Case) -> float:
        """Return the largest acceptable slowdown of a case, as a fraction."""
        for glob, limit in reversed(self.overrides):
            if fnmatchcase(case.architecture, glob) or fnmatchcase(case.label(), glob):
                return limit
        return self.general


def parse_tolerance(texts: Sequence[str], option: str = "--allow") -> Tolerance:
    """Parse the values of an option.

    Args:
        texts: Texts such as `PERCENT` or `GLOB=PERCENT`; without one of the first kind, `DEFAULT_TOLERANCE` counts.
        option: Name of the option, for errors.

    Raises:
        OptionError: If a percentage is not above 0 and below 100, a glob is empty, or there are two percentages for all
            cases.
    """
    general = [text for text in texts if "=" not in text] or [DEFAULT_TOLERANCE]
    if len(general) > 1:
        raise OptionError(f"{option} takes one percentage for all cases, not {' and '.join(general)}")
    pairs = [text.rpartition("=") for text in texts if "=" in text]
    if any(not glob.strip() for glob, _, _ in pairs):
        raise OptionError(f"{option} takes GLOB=PERCENT such as 'se_*=3%'; an empty glob matches no case")
    overrides = tuple((glob.strip(), fraction_of(percent, option)) for glob, _, percent in pairs)
    return Tolerance(fraction_of(general[0], option), overrides)


def fraction_of(text: str, option: str) -> float:
    """Return a percentage as a fraction.

    Raises:
        OptionError: If it is not above 0 and below 100.
    """
    number = text.strip()
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise OptionError(
            f"{option} takes a percentage above 0 and below 100 such as {DEFAULT_TOLERANCE}, not {text!r}"
        )
    return value
