"""Error messages for faulty run files: where in the file, what is needed there, what was found and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any, TypeVar

import msgspec

from cnnperf.errors import RunFileError
from cnnperf.records.case import AXIS_BY_NAME

T = TypeVar("T")
RunPart = Any
"""Part of a run file: `msgspec.Raw` if it is not decoded yet, otherwise plain Python values."""

_SHOWN = 60  # characters of a wrong value that an error repeats
_LONGEST = 300  # characters of an error that lists keys
_MESSAGE = re.compile(r"(?P<fault>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>\w+)|\[(?P<index>\d+|\.\.\.)\]")
_EXPECTED = re.compile(r"Expected `(?P<needed>[^`]*)`(?:, got `(?P<got>\w+)`)?.*")
_BOUND = re.compile(r"Expected `float[^`]*` (?P<side>[<>]) (?P<bound>\S+)")
_SIDES: Mapping[str, str] = {">": "above", "<": "below"}
_LENGTH = re.compile(r"of length (\d+)")
_MISSING = re.compile("Object missing required field `(.*)`")
_UNKNOWN = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
NEEDED = {
    "float": "a number",
    "int": "a whole number of at least 0",
    "array": "a list",
    "object": "an object",
    "str": "a text",
    "bool": "true or false",
}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}
"""Python types by the name that msgspec uses in its messages."""


_BUILDING = Lock()


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type; msgspec crashes if two threads look up the fields of types at once."""
    with _BUILDING:
        return msgspec.json.Decoder(kind)


def decoded(part: RunPart, kind: type[T], where: str) -> T:
    """Return part of a run file as an object of a type.

    Args:
        part: JSON that is not decoded yet, or plain Python values.
        kind: A hashable type that msgspec supports.
        where: Path of the part in the file, such as `$.benchmarks[3].extra_info`.

    Raises:
        RunFileError: If the part does not have that type. The message says where, what is needed and what was found.
    """
    decoder = _decoder(kind)  # type: ignore[arg-type]  # the types of this package are hashable
    try:
        if isinstance(part, msgspec.Raw):
            value: T = decoder.decode(part)
            return value
        return msgspec.convert(part, kind)
    except msgspec.ValidationError as error:
        raise _fault(str(error), _plain_values(part), where) from None


def _plain_values(part: RunPart) -> Any:
    """Return part of a file as plain values; None where a number in it is too large to be decoded."""
    try:
        return msgspec.json.decode(part) if isinstance(part, msgspec.Raw) else part
    except msgspec.MsgspecError:
        return None


def wrong(value: object, where: str, needed: str) -> RunFileError:
    """Return the error for a value that is not what its place in the file needs."""
    text = repr(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return RunFileError(f"{where}: {needed} is needed here, found {shown}")


def _fault(message: str, whole: object, where: str) -> RunFileError:
    """Turn a message of msgspec into an error that shows the faulty value."""
    parts = re.fullmatch(_MESSAGE, message)
    fault, path = (parts["fault"], parts["path"] or "") if parts else (message, "")
    expected = _EXPECTED.fullmatch(fault)
    place, value = _look_up(whole, path, where, _KINDS.get((expected and expected["got"]) or "", (object,)))
    if missing := _MISSING.fullmatch(fault):
        keys = ", ".join(sorted(value)) if isinstance(value, Mapping) else ""
        return RunFileError(f"{place}: {missing[1]!r} is missing; there is {keys or 'nothing'}"[:_LONGEST])
    if unknown := _UNKNOWN.fullmatch(fault):  # dropping it would merge cases that differ
        return RunFileError(
            f"{place}: unknown axis {unknown[1]!r}; the axes are {', '.join(AXIS_BY_NAME)}. A newer version of cnnperf "
            "wrote the file: upgrade cnnperf"
        )
    if expected:
        kinds = [kind for kind in expected["needed"].split(" | ") if kind != "null"]
        needed = NEEDED.get(kinds[0], kinds[0]) if len(kinds) == 1 else "a plain value"
        if bound := _BOUND.match(fault):
            needed = f"a number {_SIDES[bound['side']]} {float(bound['bound']):g}"
        length = _LENGTH.search(fault)
        return wrong(value, place, f"{needed} of length {length[1]}" if length else needed)
    if "out of range" in fault:
        return wrong(value, place, "a number that a float64 can hold")
    return RunFileError(f"{place}: {fault}")


def _look_up(value: Any, path: str, where: str, kinds: tuple[type, ...]) -> tuple[str, Any]:
    """Follow a path of msgspec to a value; where it omits the key of a dictionary, take the first value of the kinds.

    Returns:
        The path in the file and the value; the longest valid path and None if the path does not exist.
    """
    steps = list(_STEP.finditer(path))
    for number, step in enumerate(steps):
        if step["index"] == "..." and isinstance(value, Mapping):
            rest = "".join(later[0] for later in steps[number + 1 :])
            for key, child in value.items():
                place = _look_up(child, rest, f"{where}.{key}", kinds)
                if _is(place[1], kinds):
                    return place
            return f"{where}[...]", value
        key = step["key"] or int(step["index"])
        inside = isinstance(value, Mapping) and key in value
        inside = inside or (isinstance(value, Sequence) and isinstance(key, int) and key < len(value))
        if not inside:
            return where, None
        value, where = value[key], where + step[0]
    return where, value


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
