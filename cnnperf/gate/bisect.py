"""Bisection: between a good and a bad commit, the one in which a case became worse, found by measuring again.

git's own bisection does the search, in a worktree of its own, so that nothing of the user's repository is touched. At
each step the gate compares with the good commit; one that cannot be measured, or of which it cannot tell, is skipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnnperf.errors import CnnperfError, OptionError
from cnnperf.exit_status import ExitStatus
from cnnperf.gate.command import Request, run_gate, terminated_as_interrupted
from cnnperf.gate.sides import Repository, Side
from cnnperf.records.case import axes_of_label
from cnnperf.runs.verdicts import Comparison

# Statuses of the gate, as https://git-scm.com/docs/git-bisect#_bisect_run wants them: 125 skips. git sets its own
# variables for what it runs, which would lead the gate's git to another place.
STEP = (
    'unset GIT_DIR GIT_WORK_TREE GIT_PREFIX GIT_INDEX_FILE; cd "$0" || exit 125; "$@"; status=$?; '
    "case $status in 2|3) exit 125;; esac; exit $status"
)
ENDED = {0, 2}  # with 2, only commits that were skipped are left


@dataclass(frozen=True)
class Found:
    """The commit in which a case became worse.

    Attributes:
        comparison: Of the bad commit with the good one, which confirms that there is something to be found.
        commits: The first bad commit, or those among which it is where some had to be skipped; each with its subject.
            Empty where the change was not confirmed.
    """

    comparison: Comparison
    commits: tuple[str, ...]

    @property
    def confirmed(self) -> bool:
        """Tell whether the bad commit is worse than the good one when measured again."""
        return self.comparison.status() == ExitStatus.FAILED


def run_bisect(label: str, request: Request, bad: str, folder: Path, tell: Callable[[str], None]) -> Found:
    """Find the commit in which a case became worse.

    Args:
        label: Of the case, as reports print it.
        request: What each step asks, its base being the good commit.
        bad: A commit in which the case is worse.
        folder: Somewhere in the repository.
        tell: Takes lines of progress.

    Raises:
        OptionError: If the label is none.
        CnnperfError: If a commit does not exist, or git cannot bisect between the two.
    """
    given = options_of(label)
    repository = Repository(folder)
    good, bad = repository.resolve(request.base), repository.resolve(bad)
    if not repository.is_ancestor(good, bad):
        raise CnnperfError(f"{good[:10]} did not come before {bad[:10]}; give the earlier one as --good")
    request = replace(request, base=good, given=given)
    tell(f"measuring {bad[:10]} against {good[:10]} again")
    comparison = run_gate(replace(request, head=bad), folder, tell)
    if comparison.status() != ExitStatus.FAILED:
        return Found(comparison, ())
    with terminated_as_interrupted(), repository.checkout(bad) as side:
        return Found(comparison, tuple(_search(side, good, bad, step_command(request), tell)))


def options_of(label: str) -> dict[str, tuple[str, ...]]:
    """Return the options of the suite that stand for one case.

    Raises:
        OptionError: If the label is none.
    """
    axes = {name: str(value) for name, value in axes_of_label(label).items()}
    architecture, device = axes.pop("architecture"), axes.pop("device", "cpu")
    if not {"phase", "engine"} <= set(axes):
        raise OptionError(
            f"{label!r} names no phase or no engine; a case reads like 'resnet18 train cpu eager batch 4'"
        )
    return {
        "cnnperf_architecture": (architecture,),
        "cnnperf_device": (device,),
        "cnnperf_axis": tuple(f"{name}={value}" for name, value in axes.items()),
    }


def step_command(request: Request) -> list[str]:
    """Return the command of one step, which compares the work tree that it is run in with the good commit."""
    # -P: the checkout may hold another cnnperf, which is to be measured and not to measure.
    command = [sys.executable, "-P", "-m", "cnnperf.cli", "gate", "--base", request.base]
    allowed = [f"{request.tolerance.general}", *(f"{glob}={value}" for glob, value in request.tolerance.overrides)]
    command += [word for text in allowed for word in ("--allow", text)]
    command += ["--time-budget", f"{request.seconds or 1}"]
    command += ["--only", *request.parts] if len(request.parts) == 1 else []
    for key, values in request.given.items():
        command += [word for value in values for word in (f"--{key.replace('_', '-')}", value)]
    return command


def _search(side: Side, good: str, bad: str, command: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    top = Path(_git(side.folder, "rev-parse", "--show-toplevel"))
    _git(top, "bisect", "start", bad, good)
    run = ["git", "-C", str(top), "bisect", "run", "sh", "-c", STEP, str(side.folder), *command]
    status = _run(run, tell)
    if status not in ENDED:
        raise CnnperfError(f"git bisect run ended with status {status}: a step was killed, or could not be started")
    refs = _git(top, "for-each-ref", "--format=%(refname)", "refs/bisect").split()
    goods = [ref for ref in refs if ref.startswith("refs/bisect/good-")]
    return _git(top, "log", "--format=%H %s", "refs/bisect/bad", "--not", *goods).splitlines()


def _run(command: Sequence[str], tell: Callable[[str], None]) -> int:
    """Run a command and tell its lines; whatever ends this ends all that it has started."""
    with subprocess.Popen(  # noqa: S603 - no shell, fixed program
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout or ():
                tell(f"  {line.rstrip()}")
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed program
    if done.returncode != 0:
        raise CnnperfError(f"git {' '.join(arguments[:2])} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
