"""Which runs a person means by a path, `latest`, a number, a commit or a branch."""

import json
import subprocess

import pytest
from documents import benchmark, document

from cnnperf.errors import RunFileError
from cnnperf.runs.choose import choose_runs

FIRST, SECOND = "a" * 40, "b" * 40


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Save three runs, of which the last is the second of its commit and worse than its baseline."""
    folder = tmp_path / ".benchmarks" / "Linux"
    folder.mkdir(parents=True)
    for number, (commit, regressed) in enumerate([(FIRST, ""), (SECOND, ""), (SECOND, "0002")], start=1):
        found = document(benchmark(), regressed=regressed) | {"commit_info": {"id": commit, "dirty": False}}
        found["datetime"] = f"2026-05-0{number}T00:00:00+00:00"
        (folder / f"000{number}_{commit[:4]}.json").write_text(json.dumps(found))
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".benchmarks"


def names(text, storage, **how):
    return [name for name, _ in choose_runs(text, storage, **how)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latest", ["0003_bbbb"]),
        ("latest~2", ["0001_aaaa"]),
        ("2", ["0002_bbbb"]),
        ("0002", ["0002_bbbb"]),
        ("0002_bbbb", ["0002_bbbb"]),
        (FIRST, ["0001_aaaa"]),
        ("bbbb", ["0002_bbbb", "0003_bbbb"]),
    ],
)
def test_a_run_is_found_by_time_number_or_commit(storage, text, expected):
    assert names(text, storage) == expected


def test_the_beginning_of_several_commits_is_refused(storage):
    path = storage / "Linux" / "0001_aaaa.json"
    path.write_text(path.read_text().replace(FIRST, "bbbb" + "c" * 36))
    with pytest.raises(RunFileError, match="bbbb: 2 commits begin with it, bbbbbbbbbb, bbbbcccccc; give more digits"):
        choose_runs("bbbb", storage)


def test_a_file_of_runs_is_a_storage_too(storage):
    assert names("latest", storage / "Linux" / "0001_aaaa.json") == ["0001_aaaa"]


def test_a_path_is_taken_as_it_is(storage):
    path = storage / "Linux" / "0001_aaaa.json"
    assert names(str(path), storage) == ["0001_aaaa"]


def test_a_run_that_was_worse_than_its_baseline_becomes_one_only_by_name(storage):
    assert names("latest", storage, sound=True) == ["0002_bbbb"]
    assert names(SECOND, storage, sound=True) == ["0002_bbbb"]
    assert names("3", storage, sound=True) == ["0003_bbbb"]


def test_a_branch_stands_for_the_runs_of_its_commit(storage):
    settings = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    for arguments in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *settings, *arguments], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    path = storage / "Linux" / "0001_aaaa.json"
    path.write_text(path.read_text().replace(FIRST, head))
    assert names("main", storage) == ["0001_aaaa"]


@pytest.mark.parametrize("text", ["latest~3", "7", "cccc", "0001_aaa", "--all", "no such thing", "", "x" * 300])
def test_what_fits_nothing_is_told_with_what_is_near(storage, text):
    with pytest.raises(RunFileError, match=r"similar names are .*0001_aaaa"):
        choose_runs(text, storage)


def test_without_any_run_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(RunFileError, match=r"latest: no such file or folder.*pytest benchmarks --benchmark-autosave"):
        choose_runs("latest", tmp_path / "none")


def test_where_every_run_was_worse_that_is_said(storage):
    for number in (1, 2):
        next(storage.rglob(f"000{number}_*.json")).unlink()
    with pytest.raises(RunFileError, match="1 were worse than theirs"):
        choose_runs("latest", storage, sound=True)
