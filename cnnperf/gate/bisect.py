"""Bisection: find the commit between a good and a bad one in which a case became worse, by measuring again.

`git bisect` does the search in a separate worktree, so that the user's work tree is not touched. At each step the gate
compares a commit with the good one. A commit that cannot be measured, or has no verdict, is skipped.
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
from cnnperf.records.git import LOCATIONS, git_environment
from cnnperf.runs.verdicts import Comparison

# Maps the statuses of the gate to those of https://git-scm.com/docs/git-bisect#_bisect_run, in which 125 skips. The
# variables that git sets for its subprocesses would point the gate's git to another repository.
STEP = (
    f"unset {' '.join(LOCATIONS)}; "
    'cd "$0" || exit 125; "$@"; status=$?; case $status in 2|3) exit 125;; esac; exit $status'
)
ENDED = {0, 2}  # with 2, only skipped commits are left


@dataclass(frozen=True)
class Found:
    """The commit in which a case became worse.

    Attributes:
        comparison: Comparison of the bad commit with the good one, which confirms the regression.
        commits: Hash and subject of the first bad commit, or of all candidates for it if some commits were skipped.
            Empty if the regression was not confirmed.
    """

    comparison: Comparison
    commits: tuple[str, ...]

    @property
    def confirmed(self) -> bool:
        """Return whether the bad commit is worse than the good one when measured again."""
        return self.comparison.status() == ExitStatus.FAILED


def run_bisect(label: str, request: Request, bad: str, folder: Path, progress: Callable[[str], None]) -> Found:
    """Find the commit in which a case became worse.

    Args:
        label: Label of the case, as reports print it.
        request: Parameters of the gate at each step; its base is the good commit.
        bad: A commit in which the case is worse.
        folder: A folder in the repository.
        progress: Receives lines of progress.

    Raises:
        OptionError: If the label is not that of a case.
        CnnperfError: If a commit does not exist, or git cannot bisect between the two.
    """
    options = options_of(label)
    repository = Repository(folder)
    good, bad = repository.resolve(request.base), repository.resolve(bad)
    if not repository.is_ancestor(good, bad):
        raise CnnperfError(f"{good[:10]} did not come before {bad[:10]}; give the earlier one as --good")
    request = replace(request, base=good, options=options)
    progress(f"measuring {bad[:10]} against {good[:10]} again")
    comparison = run_gate(replace(request, head=bad), folder, progress)
    if comparison.status() != ExitStatus.FAILED:
        return Found(comparison, ())
    with terminated_as_interrupted(), repository.checkout(bad) as side:
        return Found(comparison, tuple(_search(side, good, bad, step_command(request), progress)))


def options_of(label: str) -> dict[str, tuple[str, ...]]:
    """Return the options of the suite that select one case.

    Raises:
        OptionError: If the label is not that of a case.
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
    """Return the command of one step, which compares the current work tree with the good commit."""
    # -P: a cnnperf in the checkout is what is measured, not what measures.
    command = [sys.executable, "-P", "-m", "cnnperf.cli", "gate", "--base", request.base]
    command.append("--base-exact")  # the good commit, also where a step is on another branch
    command += ["--allow", f"{request.tolerance.general}"]
    for glob, limit in request.tolerance.overrides:
        command += ["--allow", f"{glob}={limit}"]
    command += ["--time-budget", f"{request.budget or 1}"]
    if len(request.parts) == 1:
        command += ["--only", *request.parts]
    for key, values in request.options.items():
        for value in values:
            command += [f"--{key.replace('_', '-')}", value]
    return command


def _search(side: Side, good: str, bad: str, command: Sequence[str], progress: Callable[[str], None]) -> list[str]:
    """Bisect in the checkout of a side, and return the lines of `Found.commits`."""
    top = Repository(side.folder).git("rev-parse", "--show-toplevel")
    checkout = Repository(Path(top))
    checkout.git("bisect", "start", bad, good)
    run = ["git", "-C", top, "bisect", "run", "sh", "-c", STEP, str(side.folder), *command]
    status = _run(run, progress)
    if status not in ENDED:
        raise CnnperfError(f"git bisect run ended with status {status}: a step was killed or could not be started")
    refs = checkout.git("for-each-ref", "--format=%(refname)", "refs/bisect").split()
    goods = [ref for ref in refs if ref.startswith("refs/bisect/good-")]
    return checkout.git("log", "--format=%H %s", "refs/bisect/bad", "--not", *goods).splitlines()


def _run(command: Sequence[str], progress: Callable[[str], None]) -> int:
    """Run a command, pass on its output, and return its status; an exception ends its whole process group."""
    with subprocess.Popen(  # noqa: S603 - no shell, fixed program
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=git_environment(),
    ) as process:
        try:
            for line in process.stdout or ():
                progress(f"  {line.rstrip()}")
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode
