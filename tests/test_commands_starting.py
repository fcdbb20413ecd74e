"""The commands `init` and `run` in repositories of a user."""

import json
import os
import subprocess
import sys

import pytest

from cnnperf.cli import main
from cnnperf.commands.networks import find_networks

NETWORK = """
from torch import nn


class Part(nn.Module):
    def __init__(self):
        super().__init__()


class SmallNet(nn.Module):
    def __init__(self, width=4, *, bias=True):
        super().__init__()
        self.part, self.linear = Part(), nn.Linear(3, width)

    def forward(self, x):
        return self.linear(x.mean((2, 3)))


class NeedsWidth(nn.Module):
    def __init__(self, width):
        super().__init__()


class _Private(SmallNet):
    pass
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    package = tmp_path / "src" / "mynets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_networks_are_found_without_importing_them(repository):
    (repository / "broken.py").write_text("import nothing (")
    (repository / "tests").mkdir()
    (repository / "tests" / "helper.py").write_text(NETWORK)
    (repository / "script.py").write_text("raise SystemExit\n" + NETWORK)
    assert find_networks(repository) == ["script:SmallNet", "mynets.small:SmallNet"]


def test_init_writes_a_suite_and_never_overwrites(repository, capsys):
    before = written(repository)
    assert main(["init", "--ci", "github"]) == 0
    assert set(written(repository)) - set(before) == {
        "benchmarks/conftest.py",
        "benchmarks/test_networks.py",
        ".github/workflows/cnnperf.yml",
    }
    suite = repository / "benchmarks" / "test_networks.py"
    assert '    "mynets.small:SmallNet",\n' in suite.read_text()
    workflow = (repository / ".github" / "workflows" / "cnnperf.yml").read_text()
    assert "--cnnperf-architecture mynets.small:SmallNet" in workflow
    assert "@" not in workflow.replace("actions/checkout@v4", "").replace("actions/setup-python@v5", "")
    suite.write_text("mine")
    assert main(["init", "--architecture", "other:make"]) == 0
    assert suite.read_text() == "mine"
    assert "left benchmarks/test_networks.py as it is: it exists" in capsys.readouterr().out


def test_the_gitlab_file_has_the_same_gate(repository):
    assert main(["init", "--ci", "gitlab", "--architecture", "a.b:Net", "--architecture", "timm:resnet18"]) == 0
    text = (repository / ".gitlab" / "cnnperf.yml").read_text()
    assert "--cnnperf-architecture a.b:Net --cnnperf-architecture timm:resnet18" in text


@pytest.mark.parametrize("target", ["SmallNet", "a b:c", "module:", ":net"])
def test_a_target_that_is_none_is_refused(repository, target, capsys):
    before = written(repository)
    assert main(["init", "--architecture", target]) == 2
    assert "package.module:factory" in capsys.readouterr().err
    assert written(repository) == before


def pytest_in(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


SMOKE = ("--cnnperf-suite=smoke", "--cnnperf-device=cpu", "--cnnperf-axis=engine=eager", "--cnnperf-axis=batch=2")


@pytest.mark.slow
def test_the_suite_of_init_measures_and_is_left_out_of_the_other_tests(repository):
    assert main(["init"]) == 0
    (repository / "test_theirs.py").write_text("def test_theirs():\n    pass\n")
    done = pytest_in(repository, "pytest", "benchmarks", "--benchmark-autosave", *SMOKE)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    (saved,) = (repository / ".benchmarks").rglob("*.json")
    axes = [one["extra_info"]["axes"] for one in json.loads(saved.read_text())["benchmarks"]]
    assert {point["architecture"] for point in axes} == {"mynets.small:SmallNet"}
    done = pytest_in(repository, "pytest")
    assert "1 passed" in done.stdout
    assert "test_networks" not in done.stdout


@pytest.mark.slow
def test_without_a_network_the_example_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    done = pytest_in(tmp_path, "pytest", "benchmarks", *SMOKE, "--cnnperf-axis=phase=forward")
    assert done.returncode == 0, done.stdout
    assert "benchmarks.example_network:example" in done.stdout


@pytest.mark.slow
def test_run_measures_networks_without_a_test_file(repository):
    (repository / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")  # theirs, and not for this
    done = pytest_in(
        repository, "cnnperf", "run", "mynets.small:SmallNet", "lenet5", *SMOKE, "--cnnperf-axis=phase=forward"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 planned cases measured" in done.stdout
    (saved,) = (repository / ".benchmarks").rglob("*.json")
    assert len(json.loads(saved.read_text())["benchmarks"]) == 2
    assert not (repository / "benchmarks").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "message"),
    [("mynets.small:Nothing", "has no 'Nothing'"), ("mynets.small:NeedsWidth", "without arguments")],
)
def test_run_says_in_a_sentence_what_it_cannot_measure(repository, target, message):
    done = pytest_in(repository, "cnnperf", "run", target, *SMOKE)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (repository / ".benchmarks").exists()
