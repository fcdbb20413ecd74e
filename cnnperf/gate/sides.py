"""The two sides of a gate as folders: the work tree as it is, and commits checked out beside it for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cnnperf.errors import CnnperfError

PREFIX = "cnnperf-gate-"


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: What a person typed, or `work tree`.
        commit: Full hash of what is checked out; that of HEAD for a work tree.
        dirty: Whether files differ from the commit.
        folder: Where the code is, in the same place below its checkout as the current folder below the user's.
    """

    name: str
    commit: str
    dirty: bool
    folder: Path

    def paths(self) -> list[Path]:
        """Return the folders that Python imports from: the side's own, and its `src` where there is one."""
        return [path for path in (self.folder, self.folder / "src") if path.is_dir()]

    def label(self) -> str:
        """Return name and short commit."""
        return f"{self.name} ({self.commit[:10]}{', changed' if self.dirty else ''})"


class Repository:
    """The git repository that holds a folder; nothing of the user's in it is changed."""

    def __init__(self, folder: Path) -> None:
        """Find the repository of a folder.

        Raises:
            CnnperfError: If git is missing, or the folder is not in a repository.
        """
        self._folder = folder.resolve()
        if shutil.which("git") is None:
            raise CnnperfError("git is not installed, and the gate checks the base out with it; install git")
        if not self._succeeds("rev-parse", "--is-inside-work-tree"):
            raise CnnperfError(
                f"{folder} is not in the work tree of a git repository, from which the base could be taken"
            )
        self._below = self._git("rev-parse", "--show-prefix")

    def resolve(self, revision: str) -> str:
        """Return the full hash of a revision.

        Raises:
            CnnperfError: If it does not exist here; in a shallow clone the message says how to deepen it.
        """
        found = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if found.returncode == 0:
            return found.stdout.strip()
        if self._git("rev-parse", "--is-shallow-repository") == "true":
            raise CnnperfError(
                f"revision {revision!r} is not in this shallow clone; fetch it with `git fetch --unshallow`, or "
                "`git fetch --depth=1 origin REVISION`"
            )
        raise CnnperfError(
            f"revision {revision!r} does not exist in this repository; `git branch -a` and `git log` tell which do"
        )

    def is_ancestor(self, earlier: str, later: str) -> bool:
        """Tell whether one commit came before another in the same line."""
        return self._succeeds("merge-base", "--is-ancestor", earlier, later)

    def work_tree(self) -> Side:
        """Return the work tree as a side.

        Raises:
            CnnperfError: If the repository has no commit yet.
        """
        dirty = bool(self._git("status", "--porcelain", "--untracked-files=no"))
        return Side("work tree", self.resolve("HEAD"), dirty, self._folder)

    @contextmanager
    def checkout(self, revision: str) -> Iterator[Side]:
        """Give a revision as a side, in a git worktree in the system's folder for temporary files, removed at the end.

        Raises:
            CnnperfError: If the revision does not exist, cannot be checked out, or lacks the current folder.
        """
        commit = self.resolve(revision)
        self.remove_left_behind()
        above = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        tree = above / "tree"
        try:
            # A hook of the user's after a checkout is none of this one's business.
            made = self._run(
                "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet", "--", str(tree), commit
            )
            if made.returncode != 0:
                raise CnnperfError(f"{revision} cannot be checked out to {tree}: {_last_line(made.stderr)}")
            folder = tree / self._below
            if not folder.is_dir():
                raise CnnperfError(
                    f"{revision} has no folder {self._below}, in which the gate was started; start it above"
                )
            yield Side(revision, commit, False, folder)
        finally:
            self._remove(tree)
            shutil.rmtree(above, ignore_errors=True)

    def remove_left_behind(self) -> list[Path]:
        """Remove the worktrees of gates that were killed, told by the number of a process that is no more."""
        lines = self._git("worktree", "list", "--porcelain").splitlines()
        trees = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
        dead = [tree for tree in trees if _owner_is_dead(tree.parent.name)]
        for tree in dead:
            self._remove(tree)
            shutil.rmtree(tree.parent, ignore_errors=True)
        return dead

    def _remove(self, tree: Path) -> None:
        self._run("worktree", "remove", "--force", "--", str(tree))

    def _git(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode != 0:
            raise CnnperfError(f"git {arguments[0]} failed: {_last_line(done.stderr)}")
        return done.stdout.strip()

    def _succeeds(self, *arguments: str) -> bool:
        return self._run(*arguments).returncode == 0

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(self._folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, fixed program


def _owner_is_dead(name: str) -> bool:
    owner = name.removeprefix(PREFIX).partition("-")[0]
    if not name.startswith(PREFIX) or not owner.isdecimal():
        return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's, and alive
        return False
    return False


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no reason was given")
