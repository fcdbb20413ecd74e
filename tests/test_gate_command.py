"""`cnnperf gate` as a person types it, on a small repository with a network of its own."""

import itertools
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnperf.cli import _parser, main
from cnnperf.gate import command
from cnnperf.runs import read_runs

pytestmark = pytest.mark.slow

NETWORK = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), {extra}nn.Flatten(), nn.Linear(4 * 32 * 32, 5))
"""
CONVOLUTION = "nn.Conv2d(4, 4, 3, padding=1), "
OWN = (
    *("--cnnperf-architecture", "mine:make", "--cnnperf-device", "cpu"),
    *("--cnnperf-axis", "phase=forward", "--cnnperf-axis", "engine=eager", "--cnnperf-axis", "batch=2"),
)


def git(folder, *arguments):
    settings = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *settings, "-C", str(folder), *arguments], capture_output=True, check=True)


def commit(folder, text):
    (folder / "mine.py").write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "change")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a repository whose last commit has one convolution more than the one before, and be in it."""
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, NETWORK.format(extra=""))
    commit(tmp_path, NETWORK.format(extra=CONVOLUTION))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def worktrees(folder):
    done = subprocess.run(["git", "-C", str(folder), "worktree", "list"], capture_output=True, text=True, check=True)
    return len(done.stdout.splitlines())


def test_an_added_convolution_is_worse_in_its_counters_and_named(repository, capsys):
    assert main(["gate", "--base", "HEAD~1", "--only", "counters", *OWN]) == 1
    out = capsys.readouterr().out
    assert "counters worse" in out.splitlines()[0]
    assert "mine:make forward cpu eager batch 2: flop" in out
    assert worktrees(repository) == 1


def test_what_may_get_worse_is_accepted_by_name(repository, capsys):
    names = ("flop", "traffic", "peak_memory", "parameter_memory", "activation_memory", "other_memory")
    accepted = [word for name in (*names, "live_tensor_memory", "operators") for word in ("--accept", name)]
    assert main(["gate", "--base", "HEAD~1", "--only", "counters", *accepted, *OWN]) == 0
    assert "accepted" in capsys.readouterr().out


def test_the_work_tree_is_compared_as_it_is(repository, capsys):
    (repository / "mine.py").write_text(NETWORK.format(extra=""))
    assert main(["gate", "--base", "HEAD~1", "--only", "counters", *OWN]) == 0
    assert "work tree" in capsys.readouterr().out
    assert (repository / "mine.py").read_text() == NETWORK.format(extra="")


def test_times_are_measured_until_the_budget_ends_and_all_samples_are_kept(repository, capsys):
    samples = repository / "samples.json"
    given = ["--only", "time", "--time-budget", "1s", "--samples", str(samples)]
    assert main(["gate", "--base", "HEAD", "--head", "HEAD", *given, *OWN]) == 3
    captured = capsys.readouterr()
    assert "1 unsure" in captured.out.splitlines()[0]
    assert "the same commit" in captured.err
    (case,) = json.loads(samples.read_text())["cases"]
    assert case["axes"]["architecture"] == "mine:make"


def test_a_gate_is_saved_as_a_run_whose_anchor_is_the_base(repository, capsys):
    given = ["--only", "time", "--time-budget", "1s", "--save", "runs"]
    assert main(["gate", "--base", "HEAD", "--head", "HEAD", *given, *OWN]) == 3
    assert "saved runs/gate-" in capsys.readouterr().err
    ((_, run),) = read_runs("runs")
    assert run.commit == run.anchor[:10]
    assert run.environment["torch"]
    assert len(run.cases) + len(run.not_measured) == 1  # whatever a second was enough for


def test_a_network_that_only_one_side_has_is_new_or_gone(repository, capsys):
    more = NETWORK.format(extra="") + "\n\nother = make\n"
    (repository / "mine.py").write_text(more)
    both = ("--cnnperf-architecture", "mine:other")
    assert main(["gate", "--base", "HEAD", "--only", "counters", *OWN, *both]) == 2
    assert "the base has no such cases" in capsys.readouterr().err


def test_a_candidate_that_fails_where_the_base_does_not_is_told(repository, capsys):
    spoilt = "class Spoilt(nn.Module):\n    def forward(self, x):\n        return x * float('nan')\n\n\ndef make"
    wrong = NETWORK.format(extra="Spoilt(), ").replace("def make", spoilt)
    (repository / "mine.py").write_text(wrong)
    assert main(["gate", "--base", "HEAD", "--only", "counters", *OWN]) == 1
    out = capsys.readouterr().out
    assert "wrong result" in out
    assert "NaN" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base", "nowhere"), "revision 'nowhere' does not exist"),
        (("--base", "HEAD", "--head", "nowhere"), "revision 'nowhere' does not exist"),
        (("--base", "HEAD", "--allow", "0"), "--allow takes a percentage"),
        (("--base", "HEAD", "--allow", "much"), "--allow takes a percentage"),
        (("--base", "HEAD", "--time-budget", "5 minutes"), "--time-budget takes seconds"),
        (("--base", "HEAD", "--time-budget", "0"), "--time-budget takes seconds"),
        (("--base", "HEAD", "--accept", "latency"), "there is no counter 'latency'"),
        (("--base", "HEAD", "--base-python", "/nowhere/python"), "/nowhere/python cannot be started"),
        (("--base", "HEAD", "--samples", "/nowhere/file"), "the samples cannot be written"),
        (("--base", "HEAD", "--save", "mine.py"), "runs cannot be saved there"),
        (("--base", "HEAD", "--save", "runs", "--only", "counters"), "--only counters measures none"),
        (("--base", "HEAD", "--cnnperf-suite", "none"), "--cnnperf-suite takes one of"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(repository, capsys, arguments, message):
    assert main(["gate", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert worktrees(repository) == 1


def test_a_base_without_the_package_is_told_what_to_do(repository, capsys, tmp_path):
    python = tmp_path / "bare"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    python.chmod(0o755)
    assert main(["gate", "--base", "HEAD", "--base-python", str(python), *OWN]) == 2
    assert "No module named 'cnnperf'" in (err := capsys.readouterr().err)
    assert "--base-python" in err


def test_an_interruption_is_told_without_a_traceback(repository, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_plan", interrupt)
    assert main(["gate", "--base", "HEAD~1", *OWN]) == 130
    assert capsys.readouterr().err.endswith("cnnperf: interrupted\n")
    assert worktrees(repository) == 1


def test_help_names_the_statuses_and_the_options_of_the_suite(capsys):
    with pytest.raises(SystemExit):
        main(["gate", "--help"])
    out = capsys.readouterr().out
    assert "at least one case has no verdict" in out
    assert "--cnnperf-architecture" in out


EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*.yml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_commands_in_an_example_are_ones_that_the_command_line_takes(file):
    lines = [line.strip().removeprefix("- ") for line in file.read_text().splitlines()]
    commands = [shlex.split(line.partition(" |")[0])[1:] for line in lines if line.startswith("cnnperf ")]
    assert commands
    for words in commands:
        assert callable(_parser().parse_args(words).run)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_the_scripts_in_an_example_are_sound(file):
    blocks = file.read_text().split("run: |\n")[1:]
    for block in blocks:
        lines = itertools.takewhile(lambda line: line.startswith(" " * 10) or not line.strip(), block.splitlines())
        script = "\n".join(line[10:] for line in lines)
        assert script
        subprocess.run(["bash", "-n", "-c", script], check=True)


def in_a_package(folder, layout, extra):
    """Commit a network in a package below a folder of the repository."""
    package = folder / layout / "mynets"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(NETWORK.format(extra=extra))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "change")


PACKAGE = ("--cnnperf-architecture", "mynets.net:make", *OWN[2:])


@pytest.mark.parametrize("layout", ["lib", "python", "a/b"])
def test_the_code_of_a_package_that_is_on_the_path_comes_from_its_side(repository, layout, monkeypatch, capsys):
    in_a_package(repository, layout, "")
    in_a_package(repository, layout, CONVOLUTION)
    monkeypatch.setenv("PYTHONPATH", str(repository / layout))
    assert main(["gate", "--base", "HEAD~1", "--only", "counters", *PACKAGE]) == 1
    assert "mynets.net:make forward cpu eager batch 2: flop" in capsys.readouterr().out


FINDER = """
import sys
from importlib.machinery import PathFinder


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{folder!r}]) if name == "mynets" else None


sys.meta_path.insert(0, Finder)
"""


def test_an_import_hook_that_leads_to_the_work_tree_is_found_out(repository, monkeypatch, tmp_path_factory, capsys):
    in_a_package(repository, "lib", "")
    in_a_package(repository, "lib", CONVOLUTION)
    hooks = tmp_path_factory.mktemp("hooks")
    (hooks / "sitecustomize.py").write_text(FINDER.format(folder=str(repository / "lib")))
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    assert main(["gate", "--base", "HEAD~1", "--only", "counters", *PACKAGE]) == 2
    error = capsys.readouterr().err
    assert "the base cannot be measured: mynets was imported from another work tree" in error
    assert "nothing is worse" not in error


def test_a_file_that_git_ignores_and_the_code_needs_is_named_and_can_be_made(repository, capsys):
    (repository / ".gitignore").write_text("_version.py\n")
    in_a_package(repository, "", "")
    (repository / "mynets" / "__init__.py").write_text("from mynets._version import version\n")
    git(repository, "commit", "--quiet", "-am", "version")
    (repository / "mynets" / "_version.py").write_text("version = 1\n")
    gate = ["gate", "--base", "HEAD", "--only", "counters", *PACKAGE]
    assert main(gate) == 2
    error = capsys.readouterr().err
    assert "ignored by git are not in the checkout of the commit: mynets/_version.py" in error
    assert "--prepare" in error
    assert main([*gate, "--prepare", "echo version = 1 > mynets/_version.py"]) == 0


def test_a_base_that_has_gone_on_is_compared_at_the_commit_where_the_branch_left_it(repository, capsys):
    git(repository, "checkout", "--quiet", "-b", "feature", "HEAD~1")
    gate = ["gate", "--base", "main", "--only", "counters", *OWN]
    assert main(gate) == 0
    captured = capsys.readouterr()
    assert "main has commits that the candidate lacks" in captured.err
    assert "flop" not in captured.out
    assert main([*gate, "--base-exact"]) == 0  # the tip has a convolution more
    assert "flop" in capsys.readouterr().out


def test_a_work_tree_that_was_deleted_by_hand_does_not_hide_the_reason(repository, tmp_path_factory, capsys):
    linked = tmp_path_factory.mktemp("linked") / "tree"
    git(repository, "worktree", "add", "--detach", str(linked), "HEAD")
    shutil.rmtree(linked)
    (repository / "mine.py").write_text(NETWORK.format(extra="") + "\n\nother = make\n")
    assert main(["gate", "--base", "HEAD", "--only", "counters", *OWN, "--cnnperf-architecture", "mine:other"]) == 2
    assert "the base has no such cases" in capsys.readouterr().err
