"""Selection of runs by a text: a path, `latest`, the number of a run, a commit, or a branch."""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.records.git import git_environment
from cnnperf.records.reading import Document
from cnnperf.records.run import Head, Run
from cnnperf.runs.files import DEFAULT_STORAGE, no_runs
from cnnperf.runs.fleet.location import is_url
from cnnperf.runs.read import read_runs
from cnnperf.runs.storage import Storage, open_storage

STORAGE = Path(DEFAULT_STORAGE)
RUN_HELP = "a file or folder of runs, latest, latest~2, the number of a run, a commit, or a branch"

Runs = list[tuple[str, Run]]
"""Names and runs."""
Heads = list[tuple[str, Head]]
"""Names and heads of runs."""

_NEAR = 3  # names that an error suggests
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def choose_runs(text: str, storage: str | Path = STORAGE, *, sound: bool = False) -> Runs:
    """Return the runs that a text selects.

    Args:
        text: A path, or the URL of a dataset; `latest`, or `latest~2` for the second one before it; the number at the
            start of a file's name, or the name that `cnnperf list` shows; a commit's id or its beginning, a branch or a
            tag, for all runs of that commit.
        storage: Folder or URL of the runs, unless `text` is a path.
        sound: Leave out runs that were worse than their baseline, so that none becomes the next baseline by itself. A
            path, a number or a name selects such a run all the same.

    Raises:
        RunFileError: If nothing matches; the message suggests similar names.
    """
    if _is_path(text):
        return read_runs(text)
    saved = open_storage(storage)
    return saved.runs(_chosen(text, storage, saved, sound=sound))


def choose_documents(
    text: str, storage: str | Path = STORAGE, damaged: Callable[[RunFileError], None] | None = None
) -> Iterator[tuple[str, Document]]:
    """Yield the documents of the runs that a text selects; arguments and errors are those of `choose_runs`.

    A path also yields the files of other suites. `damaged` receives the error of a damaged file; without it the error
    is raised.
    """
    if _is_path(text):
        return open_storage(text).documents(damaged=damaged)
    saved = open_storage(storage)
    return saved.documents(_chosen(text, storage, saved), damaged)


def _chosen(text: str, storage: str | Path, saved: Storage, *, sound: bool = False) -> list[str]:
    """Return the names of the runs that a text other than a path selects."""
    back = None if sound else _back(text)
    heads = _heads(text, storage, saved, latest=None if back is None else back + 1)
    return [name for name, _ in _find(text, storage, heads, sound=sound)]


def _heads(text: str, storage: str | Path, saved: Storage, latest: int | None) -> Heads:
    """Return the heads of the saved runs, at least the latest ones, in the order of time."""
    if not is_url(storage) and not Path(storage).exists():
        raise RunFileError(f"{text}: no such file or folder, and {no_runs(storage)}")
    try:
        return sorted(saved.heads(latest), key=lambda named: named[1].time or _EARLIEST)
    except RunFileError as error:
        raise RunFileError(f"{text}: no such file or folder, and among the saved runs: {error}") from error


def _find(text: str, storage: str | Path, runs: Heads, *, sound: bool) -> Heads:
    numbered = [named for named in runs if _number(named[0]) == text.lstrip("0")] if text.isdecimal() else []
    if numbered:
        return numbered
    if by_name := [named for named in runs if text in (named[0], named[0].rpartition("/")[2])]:
        return by_name
    eligible = [named for named in runs if not (sound and named[1].regressed)]
    for find in (_latest, _of_commit, _of_revision):
        if matching := find(text, eligible):
            return matching
    raise _unknown(text, storage, runs, eligible)


def _is_path(text: str) -> bool:
    if is_url(text) or Path(text).is_absolute() or text.startswith(".") or text.endswith((".json", ".jsonl")):
        return True
    try:
        return bool(text) and Path(text).exists()
    except OSError:  # longer than any name may be
        return False


def _latest(text: str, runs: Heads) -> Heads:
    back = _back(text)
    return [runs[-1 - back]] if back is not None and back < len(runs) else []


def _back(text: str) -> int | None:
    """Return the number of runs before the latest one; None for a text without `latest`."""
    match = re.fullmatch(r"latest(?:~(\d+))?", text)
    return int(match[1] or 0) if match else None


def _of_commit(text: str, runs: Heads) -> Heads:
    if not re.fullmatch("[0-9a-f]{4,40}", text):
        return []
    matching = [named for named in runs if named[1].commit == text[:10] or named[1].commit.startswith(text)]
    commits = sorted({head.commit.removesuffix("+dirty") for _, head in matching})
    if len(commits) > 1:
        raise RunFileError(
            f"{text}: {len(commits)} commits begin with it, {', '.join(commits[:_NEAR])}; give more digits"
        )
    return matching


def _of_revision(text: str, runs: Heads) -> Heads:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=git_environment())  # noqa: S603 - no shell, fixed program
    except FileNotFoundError:  # without git there are no branches
        return []
    commit = result.stdout.strip()
    return [named for named in runs if named[1].commit == commit[:10]] if commit else []


def _number(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0].lstrip("0")


def _unknown(text: str, storage: str | Path, runs: Heads, eligible: Heads) -> RunFileError:
    left_out = len(runs) - len(eligible)
    if text.startswith("latest") and left_out:
        return RunFileError(
            f"{text}: {len(eligible)} runs in {storage} can be a baseline; {left_out} were worse than theirs and are "
            "left out"
        )
    names = [name.rpartition("/")[2] for name, _ in runs]
    near = difflib.get_close_matches(text, names, _NEAR, cutoff=0.3) or names[-_NEAR:]
    return RunFileError(
        f"{text}: no such file or folder, and none of the {len(runs)} runs in {storage} matches; similar names are "
        f"{', '.join(near)}; give {RUN_HELP}"
    )
