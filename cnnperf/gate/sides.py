"""The two sides of a gate as folders: the work tree as it is, and commits in temporary git worktrees."""

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
        name: The revision as the user wrote it, or `work tree`.
        commit: Full hash of the checked-out commit; that of HEAD for the work tree.
        dirty: Whether tracked files differ from the commit.
        folder: Folder of the code: the current folder, relative to the root of this side's checkout.
    """

    name: str
    commit: str
    dirty: bool
    folder: Path

    def paths(self) -> list[Path]:
        """Return the folders that Python imports from: the side's folder, and its `src` if there is one."""
        return [path for path in (self.folder, self.folder / "src") if path.is_dir()]

    def label(self) -> str:
        """Return name and short commit."""
        return f"{self.name} ({self.commit[:10]}{', changed' if self.dirty else ''})"


class Repository:
    """The git repository of a folder; its work tree, index and branches are never changed."""

    def __init__(self, folder: Path) -> None:
        """Find the repository of a folder.

        Raises:
            CnnperfError: If git is missing, or the folder is not in a repository.
        """
        self._folder = folder.resolve()
        if shutil.which("git") is None:
            raise CnnperfError("git is not installed; the gate needs it to check out the base")
        if not self._succeeds("rev-parse", "--is-inside-work-tree"):
            raise CnnperfError(
                f"{folder} is not in the work tree of a git repository; run the gate in the repository of the base"
            )
        self._subfolder = self.git("rev-parse", "--show-prefix")

    def resolve(self, revision: str) -> str:
        """Return the full hash of a revision.

        Raises:
            CnnperfError: If it does not exist; in a shallow clone the message says how to fetch it.
        """
        parsed = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if parsed.returncode == 0:
            return parsed.stdout.strip()
        if self.git("rev-parse", "--is-shallow-repository") == "true":
            raise CnnperfError(
                f"revision {revision!r} is not in this shallow clone; fetch it with `git fetch --unshallow`, or "
                "`git fetch --depth=1 origin REVISION`"
            )
        raise CnnperfError(
            f"revision {revision!r} does not exist in this repository; `git branch -a` and `git log` list those that do"
        )

    def is_ancestor(self, earlier: str, later: str) -> bool:
        """Return whether one commit is an ancestor of another, or the same commit."""
        return self._succeeds("merge-base", "--is-ancestor", earlier, later)

    def work_tree(self) -> Side:
        """Return the work tree as a side.

        Raises:
            CnnperfError: If the repository has no commit yet.
        """
        dirty = bool(self.git("status", "--porcelain", "--untracked-files=no"))
        return Side("work tree", self.resolve("HEAD"), dirty, self._folder)

    @contextmanager
    def checkout(self, revision: str) -> Iterator[Side]:
        """Provide a revision as a side, in a git worktree below the temporary folder that is removed at the end.

        Raises:
            CnnperfError: If the revision does not exist, cannot be checked out, or lacks the current folder.
        """
        commit = self.resolve(revision)
        self.remove_left_behind()
        tree = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")) / "tree"
        try:
            # The user's post-checkout hook must not run.
            added = self._run(
                "-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet", "--", str(tree), commit
            )
            if added.returncode != 0:
                raise CnnperfError(f"{revision} cannot be checked out to {tree}: {_last_line(added.stderr)}")
            folder = tree / self._subfolder
            if not folder.is_dir():
                raise CnnperfError(
                    f"{revision} has no folder {self._subfolder}; run the gate in a folder that both sides have"
                )
            yield Side(revision, commit, False, folder)
        finally:
            self._remove(tree)

    def remove_left_behind(self) -> list[Path]:
        """Remove the worktrees of gates that were killed: the process whose id is in their name does not exist."""
        lines = self.git("worktree", "list", "--porcelain").splitlines()
        trees = [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]
        abandoned = [tree for tree in trees if _owner_is_dead(tree.parent.name)]
        for tree in abandoned:
            self._remove(tree)
        return abandoned

    def _remove(self, tree: Path) -> None:
        self._run("worktree", "remove", "--force", "--", str(tree))
        shutil.rmtree(tree.parent, ignore_errors=True)

    def git(self, *arguments: str) -> str:
        """Run git in the folder and return its output, or raise a `CnnperfError` if it fails."""
        done = self._run(*arguments)
        if done.returncode != 0:
            raise CnnperfError(f"git {' '.join(arguments[:2])} failed: {_last_line(done.stderr or done.stdout)}")
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
    except PermissionError:  # alive, and of another user
        return False
    return False


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "git gave no reason")
