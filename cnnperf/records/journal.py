"""Conversion of the journal of an interrupted run into a run file.

The first line of a journal is the document of a run file without benchmarks; each further line is an element of
`benchmarks`, or `{"not_measured": {...}}`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError
from cnnperf.records.faults import wrong
from cnnperf.records.layout import JOURNAL_KEY, JOURNAL_SCHEMA

_SKIPPED = "not_measured"


def journal_document(file: Path, text: str, parse: Callable[[str, str], Any]) -> dict[str, Any] | None:
    """Return a journal as the document of a run file.

    Args:
        file: Path of the journal, for errors.
        text: Content of the journal.
        parse: Parser of one line of JSON; its second argument says where the line is, for errors.

    Returns:
        The document; None if the journal was cut off before its first line was complete.

    Raises:
        RunFileError: If a line other than the last is damaged, or the first line is not that of a journal.
    """
    entries = list(_entries(file, text, parse))
    if not entries:
        return None
    head = entries[0][1]
    facts = _head_facts(file, head)
    objects = [_object(entry, f"{file} line {number}") for number, entry in entries[1:]]
    skipped = facts.get(_SKIPPED, [])
    if not isinstance(skipped, list):
        raise wrong(skipped, f"{file} line 1: cnnperf.not_measured", "a list")
    return {
        **head,
        "benchmarks": [entry for entry in objects if _SKIPPED not in entry],
        "cnnperf": {**facts, _SKIPPED: skipped + [entry[_SKIPPED] for entry in objects if _SKIPPED in entry]},
    }


def _entries(file: Path, text: str, parse: Callable[[str, str], Any]) -> Iterator[tuple[int, Any]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, line in lines:
        try:
            yield number, parse(line, f"{file} line {number}")
        except RunFileError:
            if number != lines[-1][0]:
                raise
            warnings.warn(f"{file}: the last line was cut short and is left out", stacklevel=2)


def _head_facts(file: Path, head: Any) -> dict[str, Any]:
    if not isinstance(head, dict) or JOURNAL_KEY not in head:
        raise RunFileError(f"{file} line 1: a journal begins with an object that has the key {JOURNAL_KEY!r}")
    if head[JOURNAL_KEY] != JOURNAL_SCHEMA:
        raise RunFileError(
            f"{file}: the journal has version {head[JOURNAL_KEY]!r}, this version of cnnperf reads {JOURNAL_SCHEMA}; "
            "upgrade cnnperf"
        )
    facts = head.get("cnnperf", {})
    return _object(facts, f"{file} line 1: cnnperf")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong(value, where, "an object")
    return value
