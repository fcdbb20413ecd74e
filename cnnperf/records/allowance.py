"""What is allowed, as a person types it: one percentage for all cases, and others for those that a glob names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnperf.errors import OptionError

ALLOWANCE = "5%"
"""Where nothing else is said."""

ALLOWANCE_HELP = (
    "slowdown that has to be excluded (default: 5%); one that is surely there and of half of it or more fails. Of some "
    "cases: 'se_*=3%' names architectures, '* train *=8%' words of a case; repeatable, the last that fits counts"
)


@dataclass(frozen=True)
class Allowance:
    """Hold the slowdown that is allowed.

    Attributes:
        general: As a fraction: 0.05 is 5 %.
        overrides: Globs over architectures or labels of cases, each with the fraction for those.
    """

    general: float
    overrides: tuple[tuple[str, float], ...] = ()


def parse_allowance(texts: Sequence[str], option: str = "--allow") -> Allowance:
    """Parse what was given.

    Args:
        texts: Each `PERCENT` or `GLOB=PERCENT`; with none of the first kind, `ALLOWANCE` counts.
        option: Its name, for errors.

    Raises:
        OptionError: If a percentage is not above 0 and below 100, or is given twice for all cases, or a glob is empty.
    """
    general = [text for text in texts if "=" not in text] or [ALLOWANCE]
    if len(general) > 1:
        raise OptionError(f"{option} takes one percentage for all cases, not {' and '.join(general)}")
    pairs = [text.rpartition("=") for text in texts if "=" in text]
    if any(not glob.strip() for glob, _, _ in pairs):
        raise OptionError(f"{option} takes GLOB=PERCENT such as 'se_*=3%'; without a glob it stands for no case")
    overrides = tuple((glob.strip(), fraction_of(percent, option)) for glob, _, percent in pairs)
    return Allowance(fraction_of(general[0], option), overrides)


def fraction_of(text: str, option: str) -> float:
    """Return a percentage as a fraction.

    Raises:
        OptionError: If it is not above 0 and below 100.
    """
    given = text.strip()
    try:
        value = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise OptionError(f"{option} takes a percentage above 0 and below 100 such as {ALLOWANCE}, not {text!r}")
    return value
