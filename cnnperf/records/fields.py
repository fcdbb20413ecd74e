"""Checked access to the values of a JSON document: each function returns what was asked for or says what was found.

`where` is the path of the value inside the document, such as `benchmarks[3].extra_info.axes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cnnperf.errors import RunFileError

Object = Mapping[str, object]

_MOST = 2**63 - 1  # what a column of a frame can hold
_SHOWN = 60  # characters of a wrong value that an error repeats


def as_object(value: object, where: str) -> Object:
    """Return an object of a JSON document.

    Raises:
        RunFileError: If the value is anything else.
    """
    if not isinstance(value, Mapping):
        raise wrong(value, where, "an object")
    return value


def part(container: Object, key: str, where: str) -> Object:
    """Return an object inside another, an empty one where the key is missing or null.

    Raises:
        RunFileError: If there is anything else.
    """
    value = container.get(key)
    return {} if value is None else as_object(value, where)


def as_list(value: object, where: str) -> Sequence[object]:
    """Return a list of a JSON document.

    Raises:
        RunFileError: If the value is anything else.
    """
    if not isinstance(value, list | tuple):
        raise wrong(value, where, "a list")
    return value


def as_text(value: object, where: str) -> str:
    """Return a text of a JSON document.

    Raises:
        RunFileError: If the value is anything else.
    """
    if not isinstance(value, str):
        raise wrong(value, where, "a text")
    return value


def as_number(value: object, where: str) -> float:
    """Return a number of a JSON document; null, which some writers put for NaN, becomes NaN.

    Raises:
        RunFileError: If the value is anything else.
    """
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(value, where, "a number")
    try:
        return float(value)
    except OverflowError:
        raise wrong(value, where, "a number that a float64 can hold") from None


def as_count(value: object, where: str) -> int:
    """Return a whole number of at least 0 of a JSON document.

    Raises:
        RunFileError: If the value is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise wrong(value, where, "a whole number of at least 0")
    return value


def need(container: Object, key: str, where: str) -> object:
    """Return the value of a key that must be there.

    Raises:
        RunFileError: If it is not.
    """
    if key not in container:
        found = ", ".join(sorted(container)) or "nothing"
        raise RunFileError(f"{where}: {key!r} is missing; there is {found}"[:300])
    return container[key]


def wrong(value: object, where: str, needed: str) -> RunFileError:
    """Return the error that says what a place needs and what was found there."""
    text = repr(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return RunFileError(f"{where}: {needed} is needed here, found {shown}")
