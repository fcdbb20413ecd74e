"""The sides of a gate: commits are checked out beside the work tree, and nothing of the user's changes."""

import os
import subprocess

import pytest

from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import PREFIX, Repository


def git(folder, *arguments):
    settings = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *settings, "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "--quiet")
    for text in ("old", "new"):
        (folder / "file.txt").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", text)
    return folder


def state(folder):
    index = (folder / ".git" / "index").read_bytes()
    branches = git(folder, "for-each-ref"), git(folder, "symbolic-ref", "--quiet", "HEAD")
    return index, branches, git(folder, "status", "--porcelain"), git(folder, "worktree", "list")


def test_a_revision_is_checked_out_and_gone_afterwards(repository, tmp_path):
    before = state(repository)
    with Repository(repository).checkout("HEAD~1") as side:
        assert (side.folder / "file.txt").read_text() == "old"
        assert side.commit == git(repository, "rev-parse", "HEAD~1")
        assert side.paths() == [side.folder]
    assert not side.folder.exists()
    assert state(repository) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_an_interruption_leaves_nothing_behind(repository):
    before = state(repository)
    with pytest.raises(KeyboardInterrupt), Repository(repository).checkout("HEAD~1"):
        raise KeyboardInterrupt
    assert state(repository) == before


def test_the_work_tree_is_taken_as_it_is(repository):
    assert not Repository(repository).work_tree().dirty
    (repository / "file.txt").write_text("changed")
    side = Repository(repository).work_tree()
    assert side.dirty
    assert side.label() == f"work tree ({git(repository, 'rev-parse', 'HEAD')[:10]}, changed)"
    assert side.paths() == [repository, repository / "src"]
    with Repository(repository).checkout("HEAD") as other:
        assert (other.folder / "file.txt").read_text() == "new"
    assert (repository / "file.txt").read_text() == "changed"


def test_a_detached_head_is_no_trouble(repository):
    git(repository, "checkout", "--quiet", "--detach")
    with Repository(repository).checkout("main~1") as side:
        assert (side.folder / "file.txt").read_text() == "old"


def test_a_folder_below_the_root_is_found_in_the_checkout_too(repository):
    (repository / "src" / "module.py").write_text("")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "module")
    with Repository(repository / "src").checkout("HEAD") as side:
        assert side.folder.name == "src"
    with pytest.raises(CnnperfError, match="has no folder src"), Repository(repository / "src").checkout("HEAD~1"):
        pass


def test_the_user_s_hooks_do_not_run(repository, tmp_path):
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    hook.chmod(0o755)
    with Repository(repository).checkout("HEAD"):
        assert not (tmp_path / "ran").exists()


def test_a_worktree_of_a_gate_that_was_killed_is_removed_and_that_of_a_living_one_is_not(repository, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = (tmp_path / f"{PREFIX}{pid}-x" / "tree" for pid in (ended.pid, os.getppid()))
    own = tmp_path / "mine"
    for tree in (dead, alive, own):
        git(repository, "worktree", "add", "--detach", str(tree), "HEAD")
    assert Repository(repository).remove_left_behind() == [dead]
    assert not dead.parent.exists()
    assert alive.exists()
    assert own.exists()


def test_a_revision_that_does_not_exist_is_named(repository):
    with pytest.raises(CnnperfError, match="revision 'nowhere' does not exist"):
        Repository(repository).resolve("nowhere")
    with pytest.raises(CnnperfError, match="revision '--all' does not exist"):
        Repository(repository).resolve("--all")


def test_a_shallow_clone_says_how_to_deepen_it(repository, tmp_path):
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", str(shallow))
    with pytest.raises(CnnperfError, match="git fetch --unshallow"):
        Repository(shallow).resolve("HEAD~1")


def test_a_folder_outside_any_repository_is_refused(tmp_path):
    with pytest.raises(CnnperfError, match="not in the work tree of a git repository"):
        Repository(tmp_path)


def test_a_repository_without_a_commit_is_refused(tmp_path):
    git(tmp_path, "init", "--quiet")
    with pytest.raises(CnnperfError, match="revision 'HEAD' does not exist"):
        Repository(tmp_path).work_tree()


def test_a_checkout_that_fails_says_why_and_leaves_nothing(repository, monkeypatch, tmp_path):
    ours = Repository(repository)
    run = ours._run

    def full(*arguments):
        if "add" in arguments:
            return subprocess.CompletedProcess(arguments, 128, "", "fatal: No space left on device\n")
        return run(*arguments)

    monkeypatch.setattr(ours, "_run", full)
    with pytest.raises(CnnperfError, match="No space left on device"), ours.checkout("HEAD"):
        pass
    assert not list((tmp_path / "temporary").iterdir())
