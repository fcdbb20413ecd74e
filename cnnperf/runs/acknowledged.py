"""Acknowledged level shifts: a text file in the repository, one line each. They are reported and no longer fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.runs.series import Change, fits

FILE = Path("acknowledged-shifts.txt")
FORMAT = "COMMIT | METRIC | CASE | REASON"
_FIELDS = 4
_LEAST_HASH = 7  # characters that distinguish commits


@dataclass(frozen=True)
class Acknowledged:
    """One line of the file.

    Attributes:
        commit: Commit in which the new level began: its id, or at least seven characters of it.
        metric: Name of the metric, such as `latency`.
        pattern: Glob over architectures or labels of cases.
        reason: Reason for the shift.
    """

    commit: str
    metric: str
    pattern: str
    reason: str

    def covers(self, change: Change) -> bool:
        """Return whether a change may have begun in this commit.

        More runs narrow down which commit it was, so that it need not be the last one of the change.
        """
        same = any(_is_same(commit, self.commit) for commit in change.commits)
        return same and self.metric == change.series.metric and fits(change.series.case, self.pattern)


def read_acknowledged(path: Path) -> list[Acknowledged]:
    """Read the file; empty lines and those that begin with # are ignored.

    Raises:
        RunFileError: If the file cannot be read, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path}: cannot be read as text: {error}") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    return [_parse(path, number, line) for number, line in numbered if line and not line.startswith("#")]


def accept(changes: Sequence[Change], acknowledged: Sequence[Acknowledged]) -> list[Change]:
    """Return the changes with the reasons of those that are acknowledged."""
    accepted = []
    for change in changes:
        reasons = [line.reason for line in acknowledged if line.covers(change)]
        accepted.append(replace(change, reason=reasons[0] if reasons else ""))
    return accepted


def line_of(change: Change) -> str:
    """Return the line that acknowledges a change, with a placeholder for the reason."""
    return f"{change.commits[-1]} | {change.series.metric} | {change.series.case.label()} | why"


def _is_same(commit: str, other: str) -> bool:
    short, long = sorted((commit, other), key=len)
    return bool(short) and long.startswith(short)


def _parse(path: Path, number: int, line: str) -> Acknowledged:
    fields = [field.strip() for field in line.split("|", _FIELDS - 1)]
    if len(fields) != _FIELDS or not all(fields):
        raise RunFileError(f"{path} line {number}: a line is {FORMAT}, not {line!r}")
    if len(fields[0]) < _LEAST_HASH:
        raise RunFileError(f"{path} line {number}: {_LEAST_HASH} characters of a commit are needed, not {fields[0]!r}")
    return Acknowledged(*fields)
