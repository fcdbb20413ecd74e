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
from cnnperf.records.git import git_environment, without_locations

PREFIX = "cnnperf-gate-"
CODE = ("*.py", "*.so", "*.pyd", "*.json", "*.yaml", "*.yml", "*.toml")
"""Patterns of files that code may need; `_version.py` and built extensions are often ignored by git."""

NO_CODE = frozenset({"__pycache__", "site-packages", "node_modules", ".venv", "venv", ".tox", "build", ".benchmarks"})
"""Folders whose files no code of the repository imports."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        name: The revision as the user wrote it, or `work tree`.
        commit: Full hash of the checked-out commit; that of HEAD for the work tree.
        dirty: Whether tracked files differ from the commit.
        folder: Folder of the code: the current folder, relative to the root of this side's checkout.
        top: Root of this side's checkout.
        others: Roots of the other work trees of the repository, from which no code may come.
        work_tree: Root of the user's work tree if the checkout was made for the gate; None for the work tree itself.
    """

    name: str
    commit: str
    dirty: bool
    folder: Path
    top: Path | None = None
    others: tuple[Path, ...] = ()
    work_tree: Path | None = None

    def paths(self) -> list[Path]:
        """Return the folders that Python imports from: the side's folder, and its `src` if there is one."""
        return [path for path in (self.folder, self.folder / "src") if path.is_dir()]

    def prepare(self, command: str) -> None:
        """Run a shell command in the folder.

        Raises:
            CnnperfError: If it fails; with its last line.
        """
        done = subprocess.run(  # noqa: S602 - the user's own command
            command, shell=True, capture_output=True, text=True, check=False, cwd=self.folder, env=without_locations()
        )
        if done.returncode != 0:
            last = _last_line(done.stderr or done.stdout)
            raise CnnperfError(f"--prepare failed in the checkout of {self.name} (status {done.returncode}): {last}")

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
        inside = self._run("rev-parse", "--is-inside-work-tree")
        if inside.stdout.strip() != "true":
            reason = f" ({_last_line(inside.stderr)})" if inside.returncode else ""
            raise CnnperfError(
                f"{folder} is not in the work tree of a git repository{reason}; run the gate in the repository of the "
                "base"
            )
        self._subfolder = self.git("rev-parse", "--show-prefix")
        self._top = Path(self.git("rev-parse", "--show-toplevel"))

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

    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor of two commits; None if there is none, or a shallow clone lacks it."""
        found = self._run("merge-base", one, other)
        return found.stdout.strip() if found.returncode == 0 else None

    def ignored_files(self) -> list[str]:
        """Return the files of code in the work tree that git ignores, and that checkouts therefore lack."""
        listed = self.git("ls-files", "--others", "--ignored", "--exclude-standard", "--", *CODE).splitlines()
        return [name for name in listed if NO_CODE.isdisjoint(Path(name).parts[:-1])]

    def work_tree(self) -> Side:
        """Return the work tree as a side.

        Raises:
            CnnperfError: If the repository has no commit yet.
        """
        dirty = bool(self.git("status", "--porcelain", "--untracked-files=no"))
        return Side("work tree", self.resolve("HEAD"), dirty, self._folder, self._top, self._others(self._top))

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
            top = tree.resolve()
            yield Side(revision, commit, False, folder, top, self._others(top), self._top)
        finally:
            self._remove(tree)

    def remove_left_behind(self) -> list[Path]:
        """Remove the worktrees of gates that were killed: the process whose id is in their name does not exist."""
        abandoned = [tree for tree in self._trees() if _owner_is_dead(tree.parent.name)]
        for tree in abandoned:
            self._remove(tree)
        return abandoned

    def _trees(self) -> list[Path]:
        """Return the roots of all work trees of the repository."""
        lines = self.git("worktree", "list", "--porcelain").splitlines()
        return [Path(line.removeprefix("worktree ")) for line in lines if line.startswith("worktree ")]

    def _others(self, top: Path) -> tuple[Path, ...]:
        """Return the roots of all work trees but one."""
        return tuple(tree.resolve() for tree in self._trees() if tree.resolve() != top.resolve())

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
        return subprocess.run(command, capture_output=True, text=True, check=False, env=git_environment())  # noqa: S603 - no shell, fixed program


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
    """Return the last line of an output of git, behind the line of the fatal error if that is another."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "git gave no reason"
    fatal = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1])
    return fatal if fatal == lines[-1] else f"{fatal} {lines[-1]}"
