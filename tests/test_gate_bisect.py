"""Bisection on a small repository, by counters, which need no time."""

import subprocess

import pytest
from test_gate_command import CONVOLUTION, NETWORK, commit, git, worktrees

from cnnperf.cli import main
from cnnperf.errors import OptionError
from cnnperf.gate.bisect import options_of, step_command
from cnnperf.gate.command import Request
from cnnperf.records.case import Case, axes_of_label
from cnnperf.records.tolerance import parse_tolerance

pytestmark = pytest.mark.slow

CASE = "mine:make forward cpu eager batch 2"


PLAIN, MORE = NETWORK.format(extra=""), NETWORK.format(extra=CONVOLUTION)
BROKEN = f"{PLAIN}import nowhere\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit_all(folder, *texts):
    for number, text in enumerate(texts):
        commit(folder, f"{text}# {number}\n")


def hashes(folder):
    command = ["git", "-C", str(folder), "rev-list", "--reverse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def state(folder):
    command = ["git", "-C", str(folder), "status", "--branch", "--porcelain"]
    refs = ["git", "-C", str(folder), "for-each-ref"]
    return [subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in (command, refs)]


def bisect(good, bad, *more):
    return main(["bisect", CASE, "--good", good, "--bad", bad, "--only", "counters", *more])


def test_the_commit_is_found_in_a_worktree_and_nothing_of_the_users_changes(repository, capsys):
    commit_all(repository, PLAIN, PLAIN, MORE, MORE)
    before, found = state(repository), hashes(repository)[2]
    assert bisect("HEAD~3", "HEAD") == 0
    assert f"became worse in {found}" in capsys.readouterr().out
    assert state(repository) == before
    assert worktrees(repository) == 1


def test_where_a_commit_cannot_be_measured_those_that_are_left_are_named(repository, capsys):
    commit_all(repository, PLAIN, BROKEN, MORE)
    assert bisect("HEAD~2", "HEAD") == 3
    out = capsys.readouterr().out
    assert "one of these" in out
    assert [one in out for one in hashes(repository)] == [False, True, True]


def test_it_works_below_the_top_of_a_repository(repository, monkeypatch, capsys):
    below = repository / "below"
    below.mkdir()
    for number, text in enumerate((PLAIN, PLAIN, MORE)):
        (below / "mine.py").write_text(f"{text}# {number}\n")
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "-m", "change")
    monkeypatch.chdir(below)
    assert bisect("HEAD~2", "HEAD") == 0
    assert f"became worse in {hashes(repository)[2]}" in capsys.readouterr().out


def test_every_step_has_the_tolerances_that_were_given():
    tolerance = parse_tolerance(["4%", "resnet18=2%"])
    command = step_command(Request("abc", tolerance=tolerance, options=options_of("resnet18 train cpu eager batch 4")))
    assert [word for word, before in zip(command[1:], command, strict=False) if before == "--allow"] == [
        "0.04",
        "resnet18=0.02",
    ]


def test_a_change_that_is_not_confirmed_is_not_searched_for(repository, capsys):
    commit_all(repository, PLAIN, PLAIN)
    assert bisect("HEAD~1", "HEAD") == 3
    assert "HEAD is not significantly worse than HEAD~1" in capsys.readouterr().out


def test_a_good_commit_that_came_later_is_told_before_anything_is_measured(repository, capsys):
    commit_all(repository, PLAIN, MORE)
    assert bisect("HEAD", "HEAD~1") == 2
    assert "give the earlier one as --good" in capsys.readouterr().err


def test_an_unknown_commit_is_one_sentence(repository, capsys):
    commit_all(repository, PLAIN)
    assert bisect("nowhere", "HEAD") == 2
    assert "revision 'nowhere' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case",
    [
        Case("resnet18", "train", batch=4),
        Case("lenet5", "backward", "cuda:1", "compile", "bf16", "channels_last", 128),
        Case("mypackage.module:factory"),
    ],
)
def test_a_label_is_read_back_as_its_axes(case):
    named = axes_of_label(case.label())
    assert Case.from_axes(named) == case
    assert options_of(case.label())["cnnperf_architecture"] == (case.architecture,)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "a case reads like"),
        ("resnet18 training cpu", "'training' in 'resnet18 training cpu' is not a phase"),
        ("resnet18 train cpu eager batch", "at least 1, not ''"),
        ("resnet18 batch 4", "names no phase or no engine"),
    ],
)
def test_a_label_that_is_none_is_refused(label, message):
    with pytest.raises(OptionError, match=message):
        options_of(label)
