"""Reading of run files from disk, with errors that name the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cnnperf.errors import RunFileError
from cnnperf.records.journal import journal_document
from cnnperf.records.layout import JOURNAL_SUFFIX
from cnnperf.records.reading import Document, decode_run, parse_document
from cnnperf.records.run import Run

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_MAY_HOLD_SOME = re.compile(rb"\\(?:[bf]|u00[0189]|u007[fF]|u[dD][89a-fA-F])|\x7f|\xc2[\x80-\x9f]")
"""Bytes of a JSON file that may contain such a character; few files match."""


def read_run(file: Path) -> Run | None:
    """Read a run file or the journal of an interrupted run.

    Returns:
        The run; None if the file is sound but not a run file, or a journal that was cut off in its first line.

    Raises:
        RunFileError: If the file cannot be read, is damaged, or was written by a newer version of cnnperf.
    """
    data = _read_bytes(file)
    usual = not file.name.endswith(JOURNAL_SUFFIX) and _is_usual(data)
    if usual and (run := decode_run(data, f"{file}: ")) is not None:
        return run
    document = _document(file, data)
    try:
        return None if document is None else parse_document(document, f"{file}: ")
    except (RunFileError, RecursionError) as error:  # the latter for a document that is nested too deeply
        raise RunFileError(f"{file}: {error}") from error


def read_document(file: Path) -> Document | None:
    """Read the JSON of a run file or journal as plain Python values.

    Returns:
        The document; None as `read_run` does.

    Raises:
        RunFileError: If the file cannot be read, or is not JSON.
    """
    return _document(file, _read_bytes(file))


def printable(value: Any) -> Any:
    """Replace characters that no terminal, page or UTF-8 file can show: control characters and lone surrogates."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): printable(item) for key, item in value.items()}
    return value


def _is_usual(data: bytes) -> bool:
    """Return whether the bytes are UTF-8 without unprintable characters."""
    suspicious = (not data.isascii() and b"\xc2" in data) or b"\\" in data or b"\x7f" in data
    if suspicious and _MAY_HOLD_SOME.search(data):
        return False
    try:
        return data.isascii() or bool(data.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _document(file: Path, data: bytes) -> Document | None:
    text = _text(file, data)
    if file.name.endswith(JOURNAL_SUFFIX):
        return journal_document(file, text, _parse)
    document = _parse(text, str(file))
    known = isinstance(document, dict) and any(key in document for key in ("machine_info", "cnnperf"))
    return document if known else None


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RunFileError(f"{file}: cannot be read: {error.strerror or error}") from error


def _text(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunFileError(f"{file}: not a text file in UTF-8 (byte {error.start})") from error


def _parse(text: str, where: str) -> Any:
    if not text.strip():
        raise RunFileError(f"{where}: the file is empty; the run that wrote it did not finish saving")
    try:
        value = json.loads(text)
        return printable(value) if _MAY_HOLD_SOME.search(text.encode("utf-8", "surrogatepass")) else value
    except json.JSONDecodeError as error:
        raise RunFileError(
            f"{where}: not valid JSON, or cut short: {error.msg} at line {error.lineno} column {error.colno}; repair "
            "it, or move it away"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise RunFileError(f"{where}: not a run file: {error}") from error
