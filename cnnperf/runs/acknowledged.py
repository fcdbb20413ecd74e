"""Shifts that people know of: a text file in the repository, one line each. They are told, and no longer fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.runs.series import Change, fits

FILE = Path("acknowledged-shifts.txt")
FORMAT = "COMMIT | METRIC | CASE | REASON"
_FIELDS = 4
_LEAST_HASH = 7  # characters that tell one commit from another


@dataclass(frozen=True)
class Acknowledged:
    """One line: the commit in which the new level began, and what it is about.

    Attributes:
        commit: Its id, or at least seven characters of it.
        metric: Such as `latency`.
        pattern: A glob over architectures or labels of cases.
        reason: Why.
    """

    commit: str
    metric: str
    pattern: str
    reason: str

    def covers(self, change: Change) -> bool:
        """Tell whether a change is the one that is meant: it may have begun in this commit.

        Which run is the first at the new level becomes clearer with every run, so that it need not be the last of them.
        """
        same = any(_same(commit, self.commit) for commit in change.commits)
        return same and self.metric == change.series.metric and fits(change.series.case, self.pattern)


def read_acknowledged(path: Path) -> list[Acknowledged]:
    """Read the file; empty lines and those that begin with # are left out.

    Raises:
        RunFileError: If it cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path}: cannot be read as text: {error}") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    return [_parse(path, number, line) for number, line in numbered if line and not line.startswith("#")]


def accept(changes: Sequence[Change], acknowledged: Sequence[Acknowledged]) -> list[Change]:
    """Return the changes, those that are acknowledged with the reason."""
    return [
        replace(change, reason=next((one.reason for one in acknowledged if one.covers(change)), ""))
        for change in changes
    ]


def line_of(change: Change) -> str:
    """Return the line that acknowledges a change, but for its reason."""
    return f"{change.commits[-1]} | {change.series.metric} | {change.series.case.label()} | why"


def _same(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return bool(short) and long.startswith(short)


def _parse(path: Path, number: int, line: str) -> Acknowledged:
    fields = [field.strip() for field in line.split("|", _FIELDS - 1)]
    if len(fields) != _FIELDS or not all(fields):
        raise RunFileError(f"{path} line {number}: a line is {FORMAT}, not {line!r}")
    if len(fields[0]) < _LEAST_HASH:
        raise RunFileError(f"{path} line {number}: {_LEAST_HASH} characters of a commit are needed, not {fields[0]!r}")
    return Acknowledged(*fields)
