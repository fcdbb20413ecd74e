"""The sides of a gate: commits are checked out beside the work tree, and nothing of the user's changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnnperf
from cnnperf.errors import CnnperfError
from cnnperf.gate.sides import PREFIX, Repository
from cnnperf.records.git import git_environment


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


HOOK = """#!{python}
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from cnnperf.gate.sides import Repository
assert any(name.startswith("GIT_") for name in os.environ)
repository = Repository(Path.cwd())
repository.work_tree()
with repository.checkout("HEAD~1") as side:
    Path({seen!r}).write_text((side.folder / "file.txt").read_text())
"""


@pytest.mark.parametrize("linked", [False, True])
def test_within_a_hook_nothing_of_the_commit_is_lost(repository, tmp_path, linked):
    seen, hook = tmp_path / "seen", repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK.format(python=sys.executable, root=str(Path(cnnperf.__file__).parents[1]), seen=str(seen)))
    hook.chmod(0o755)
    folder = repository
    if linked:
        folder = tmp_path / "linked"
        git(repository, "worktree", "add", "--quiet", "-b", "other", str(folder))
    (folder / "added.txt").write_text("")
    git(folder, "add", "added.txt")
    git(folder, "commit", "--quiet", "-m", "one file")
    assert seen.read_text() == "old"
    assert git(folder, "show", "--name-status", "--format=", "HEAD") == "A\tadded.txt"
    assert not git(folder, "status", "--porcelain")


def test_looking_at_the_work_tree_does_not_rewrite_the_index(repository):
    file, index = repository / "file.txt", repository / ".git" / "index"
    os.utime(file, (1, 1))  # `git status` would note the new time
    before = index.read_bytes(), index.stat().st_mtime_ns
    Repository(repository).work_tree()
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before


def test_variables_of_configuration_and_credentials_stay(monkeypatch):
    kept = {"GIT_CONFIG_COUNT": "0", "GIT_SSH_COMMAND": "ssh -x", "GIT_ASKPASS": "ask", "PATH": "/bin"}
    lost = {"GIT_DIR": "a", "GIT_INDEX_FILE": "b", "GIT_WORK_TREE": "c", "GIT_QUARANTINE_PATH": "d"}
    assert git_environment({**kept, **lost}) == {**kept, "GIT_OPTIONAL_LOCKS": "0"}


def test_the_reason_of_git_is_said_where_it_refuses_a_folder(repository, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(CnnperfError, match="dubious ownership"):
        Repository(repository)


def test_the_git_folder_itself_is_no_work_tree(repository):
    with pytest.raises(CnnperfError, match="not in the work tree of a git repository"):
        Repository(repository / ".git")


def test_files_of_code_that_git_ignores_are_listed_without_what_no_code_imports(repository):
    (repository / ".gitignore").write_text("_version.py\n*.so\n__pycache__\nbuild\n*.txt\n.venv\n")
    for name in ("src/_version.py", "src/_C.so", "src/__pycache__/a.py", "build/lib/b.py", "notes.txt", ".venv/x.py"):
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert sorted(Repository(repository).ignored_files()) == ["src/_C.so", "src/_version.py"]


def test_a_side_knows_the_other_work_trees_from_which_its_code_must_not_come(repository, tmp_path):
    git(repository, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "HEAD")
    ours = Repository(repository)
    assert ours.work_tree().others == (tmp_path / "linked",)
    with ours.checkout("HEAD~1") as side:
        assert set(side.others) == {repository, tmp_path / "linked"}
        assert side.work_tree == repository


def test_a_command_prepares_a_checkout_or_says_why_not(repository):
    with Repository(repository).checkout("HEAD") as side:
        side.prepare("echo made > made.py")
        assert (side.folder / "made.py").read_text() == "made\n"
        with pytest.raises(CnnperfError, match=r"--prepare failed in the checkout of HEAD \(status 3\): no compiler"):
            side.prepare("echo no compiler >&2; exit 3")
    assert not (repository / "made.py").exists()


def test_the_commit_at_which_a_branch_left_its_base_is_found(repository):
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "checkout", "--quiet", "-b", "feature")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "feature")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "main goes on")
    assert Repository(repository).merge_base("main", "feature") == first
    git(repository, "checkout", "--quiet", "--orphan", "unrelated")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "unrelated")
    assert Repository(repository).merge_base("main", "unrelated") is None
