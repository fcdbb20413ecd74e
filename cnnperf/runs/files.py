"""Run files on disk: which there are, and what JSON they hold. What the JSON means is `document`'s business."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError
from cnnperf.records.fields import as_list, as_object, part

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MAY_HOLD_SOME = re.compile(r"\\(?:[bf]|u00[0189]|u007[fF]|u[dD][89a-fA-F])|[\x7f-\x9f]")
"""What the text of a JSON file has where a string of it may have such a character: few files do."""

JOURNAL_SUFFIX = ".journal.jsonl"
JOURNAL_VERSION = 1
PATTERNS = ("*.json", f"*{JOURNAL_SUFFIX}")

Document = dict[str, Any]


def find_files(path: Path) -> list[Path]:
    """Return the file itself, or all files below a directory that may be run files, in the order of their paths.

    Raises:
        RunFileError: If there is nothing at the path, or nothing to read below it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RunFileError(f"{path}: no such file or directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise RunFileError(f"{path}: the folder cannot be read; its permissions forbid it")
    found = sorted(file for pattern in PATTERNS for file in path.rglob(pattern) if file.is_file())
    if not found:
        raise no_runs(path)
    return found


def no_runs(path: str | Path) -> RunFileError:
    """Return the error that tells how to make a run."""
    return RunFileError(f"no runs in {path}; run `pytest benchmarks --benchmark-autosave` first")


def run_names(files: list[Path]) -> dict[Path, str]:
    """Name each run after its file's stem, and after its path as far as needed where stems are equal.

    Two storage folders may both hold `0001_baseline.json`; their rows must not pass for one run's.
    """
    names = {file: _parts(file) for file in files}
    return {file: "/".join(parts[-_needed(parts, names) :]) for file, parts in names.items()}


def read_document(file: Path) -> Document | None:
    """Read the JSON of a run file, or the journal of an interrupted run as if it were one.

    Returns:
        The document; None if the file is sound but neither, or a journal that was cut off before its first case.

    Raises:
        RunFileError: If the file cannot be read or is damaged.
    """
    text = _read_text(file)
    if file.name.endswith(JOURNAL_SUFFIX):
        return _journal(file, text)
    document = _parse(text, str(file))
    known = isinstance(document, dict) and any(key in document for key in ("machine_info", "cnnperf"))
    return document if known else None


def _journal(file: Path, text: str) -> Document | None:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    entries = []
    for number, line in lines:
        try:
            entries.append((number, _parse(line, f"{file} line {number}")))
        except RunFileError:
            if number != lines[-1][0]:
                raise
            warnings.warn(f"{file}: the last line was cut short and is left out", stacklevel=2)
    if not entries:
        return None
    head = _journal_head(file, entries[0][1])
    return _assembled(file, head, entries[1:])


def _journal_head(file: Path, head: object) -> Document:
    if not isinstance(head, dict) or "cnnperf_journal" not in head:
        raise RunFileError(f"{file} line 1: a journal begins with an object that has the key 'cnnperf_journal'")
    version = head["cnnperf_journal"]
    if version != JOURNAL_VERSION:
        raise RunFileError(
            f"{file}: the journal has version {version!r}, this version of cnnperf reads {JOURNAL_VERSION}; "
            "upgrade cnnperf"
        )
    return head


def _assembled(file: Path, head: Document, entries: list[tuple[int, Any]]) -> Document:
    facts = part(head, "cnnperf", f"{file} line 1: cnnperf")
    objects = [as_object(entry, f"{file} line {number}") for number, entry in entries]
    skipped = [*as_list(facts.get("not_measured", []), f"{file} line 1: cnnperf.not_measured")]
    skipped += [entry["not_measured"] for entry in objects if "not_measured" in entry]
    benchmarks = [entry for entry in objects if "not_measured" not in entry]
    return {**head, "benchmarks": benchmarks, "cnnperf": {**facts, "not_measured": skipped}}


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunFileError(f"{file}: not a text file in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise RunFileError(f"{file}: cannot be read: {error.strerror or error}") from error


def _parse(text: str, where: str) -> Any:
    if not text.strip():
        raise RunFileError(f"{where}: the file is empty; the run that wrote it did not finish saving")
    try:
        value = json.loads(text)
        return _printable(value) if _MAY_HOLD_SOME.search(text) else value
    except json.JSONDecodeError as error:
        raise RunFileError(
            f"{where}: not valid JSON, or cut short: {error.msg} at line {error.lineno} column {error.colno}; mend it, "
            "or move it away"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise RunFileError(f"{where}: not a run file: {error}") from error


def _printable(value: Any) -> Any:
    """Replace what no terminal, page or file in UTF-8 can show: control characters, and halves of surrogate pairs."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(one) for key, one in value.items()}
    return value


def _parts(file: Path) -> tuple[str, ...]:
    stem = file.name.removesuffix(JOURNAL_SUFFIX).removesuffix(".json")
    return tuple(_printable(part) for part in (*file.parent.parts, stem))


def _needed(parts: tuple[str, ...], names: Mapping[Path, tuple[str, ...]]) -> int:
    """Return how many trailing parts tell this file from all others."""
    for count in range(1, len(parts)):
        if sum(other[-count:] == parts[-count:] for other in names.values()) == 1:
            return count
    return len(parts)
