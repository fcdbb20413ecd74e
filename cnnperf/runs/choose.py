"""Which runs a person means: a path, `latest`, the number of a run, a commit, or a branch."""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cnnperf.errors import RunFileError
from cnnperf.runs.files import no_runs
from cnnperf.runs.read import read_runs
from cnnperf.runs.records import Run

STORAGE = Path(".benchmarks")
RUN_HELP = "a file or folder of runs, latest, latest~2, the number of a run, a commit, or a branch"

Runs = list[tuple[str, Run]]
"""Each with its name."""

_NEAR = 3  # names that an error offers
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def choose_runs(text: str, storage: Path = STORAGE, *, sound: bool = False) -> Runs:
    """Return the runs that are meant.

    Args:
        text: A path; `latest`, or `latest~2` for the one two before it; the number at the start of a file's name, or
            the name that `cnnperf list` shows; a commit's id or its beginning, a branch or a tag, for all runs of that
            commit.
        storage: Folder of the runs, for all but a path.
        sound: Leave out runs that were worse than their baseline, so that none becomes the next one by itself. A path,
            a number or a name means one all the same.

    Raises:
        RunFileError: If nothing fits; the message names what is near.
    """
    if _is_path(text):
        return read_runs(text)
    try:
        stored = read_runs(storage) if storage.exists() else []
    except RunFileError as error:
        raise RunFileError(f"{text}: no such file or folder, and among the saved runs: {error}") from error
    if not stored:
        raise RunFileError(f"{text}: no such file or folder, and {no_runs(storage)}")
    runs = sorted(stored, key=lambda named: named[1].time or _EARLIEST)
    numbered = [named for named in runs if _number(named[0]) == text.lstrip("0")] if text.isdecimal() else []
    if numbered:
        return numbered
    able = [named for named in runs if not (sound and named[1].regressed)]
    if named := [one for one in runs if text in (one[0], one[0].rpartition("/")[2])]:
        return named
    for find in (_latest, _of_commit, _of_revision):
        if found := find(text, able):
            return found
    raise _unknown(text, storage, runs, able)


def _is_path(text: str) -> bool:
    if Path(text).is_absolute() or text.startswith(".") or text.endswith((".json", ".jsonl")):
        return True
    try:
        return bool(text) and Path(text).exists()
    except OSError:  # longer than any name may be
        return False


def _latest(text: str, runs: Runs) -> Runs:
    match = re.fullmatch(r"latest(?:~(\d+))?", text)
    back = int(match[1] or 0) if match else len(runs)
    return [runs[-1 - back]] if back < len(runs) else []


def _of_commit(text: str, runs: Runs) -> Runs:
    if not re.fullmatch("[0-9a-f]{4,40}", text):
        return []
    found = [named for named in runs if named[1].commit == text[:10] or named[1].commit.startswith(text)]
    commits = sorted({run.commit.removesuffix("+dirty") for _, run in found})
    if len(commits) > 1:
        raise RunFileError(f"{text}: {len(commits)} commits begin so, {', '.join(commits[:_NEAR])}; give more of it")
    return found


def _of_revision(text: str, runs: Runs) -> Runs:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed program
    except FileNotFoundError:  # without git there are no branches
        return []
    commit = found.stdout.strip()
    return [named for named in runs if named[1].commit == commit[:10]] if commit else []


def _number(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0].lstrip("0")


def _unknown(
    text: str, storage: Path, runs: Sequence[tuple[str, Run]], able: Sequence[tuple[str, Run]]
) -> RunFileError:
    left_out = len(runs) - len(able)
    if text.startswith("latest") and left_out:
        return RunFileError(
            f"{text}: {len(able)} runs in {storage} can be a baseline; {left_out} were worse than theirs and are left "
            "out"
        )
    names = [name.rpartition("/")[2] for name, _ in runs]
    near = difflib.get_close_matches(text, names, _NEAR, cutoff=0.3) or names[-_NEAR:]
    return RunFileError(
        f"{text}: no such file or folder, and none of the {len(runs)} runs in {storage} is it; near are "
        f"{', '.join(near)}; it takes {RUN_HELP}"
    )
