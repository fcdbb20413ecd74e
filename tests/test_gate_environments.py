"""The base's own environment: made where dependencies differ, and never without being asked for."""

import sys
from pathlib import Path

import pytest
from test_gate_command import NETWORK, OWN, commit, git

from cnnperf.cli import main
from cnnperf.errors import CnnperfError
from cnnperf.gate.environments import AUTO, changed_packages, differing, interpreter_of
from cnnperf.gate.sides import Side

pytestmark = pytest.mark.slow


@pytest.fixture
def folders(tmp_path):
    made = tmp_path / "base", tmp_path / "candidate"
    for folder in made:
        folder.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["torch>=2"]\n')
        (folder / "requirements.txt").write_text("numpy  # arrays\n\n# all\n")
    return made


def sides(folders):
    return [Side(folder.name, "a" * 40, False, folder) for folder in folders]


def test_comments_and_other_keys_are_no_difference(folders):
    (folders[1] / "requirements.txt").write_text("# what is needed\nnumpy\n")
    (folders[1] / "pyproject.toml").write_text('[project]\nname = "y"\ndependencies = ["torch>=2"]\n')
    assert differing(*folders) == []


def test_every_place_that_differs_is_named(folders):
    (folders[1] / "requirements.txt").write_text("numpy>2\n")
    (folders[1] / "constraints.txt").write_text("torch==2.13.0\n")
    (folders[1] / "pyproject.toml").write_text('[project]\nname = "x"\nrequires-python = ">=3.11"\n')
    places = ["constraints.txt", "requirements.txt"]
    keys = ["requires-python in pyproject.toml", "dependencies in pyproject.toml"]
    assert differing(*folders) == places + keys


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", "numpy\n".encode("utf-16")),
        ("pyproject.toml", b"[project"),
        ("pyproject.toml", b'project = "x"'),
    ],
)
def test_what_cannot_be_read_differs_where_its_bytes_do(folders, name, content):
    (folders[0] / name).write_bytes(content)
    assert differing(*folders)
    (folders[1] / name).write_bytes(content)
    assert differing(*folders) == []


def test_a_folder_with_the_name_of_a_file_is_none(folders):
    (folders[0] / "requirements-more.txt").mkdir()
    assert differing(*folders) == []


def test_only_what_is_declared_otherwise_comes_in_another_version(folders):
    (folders[1] / "requirements.txt").write_text("numpy>2\nScikit_Learn\n")
    assert changed_packages(*folders) == {"numpy", "scikit-learn"}


def test_where_nothing_differs_the_base_has_the_same_interpreter(folders):
    with interpreter_of(*sides(folders), AUTO, pytest.fail) as python:
        assert python == sys.executable


def test_without_being_asked_for_nothing_is_installed_and_that_is_told(folders):
    (folders[1] / "requirements.txt").write_text("numpy>2\n")
    told = []
    with interpreter_of(*sides(folders), sys.executable, told.append) as python:
        assert python == sys.executable
    (line,) = told
    assert line.startswith(
        "dependencies differ between the sides (requirements.txt); both are measured with the installed packages"
    )
    assert "--base-python auto" in line


def test_an_environment_is_made_and_gone_at_the_end(folders):
    for folder in folders:
        (folder / "pyproject.toml").unlink()
    (folders[0] / "requirements.txt").write_text("# nothing\n")
    with interpreter_of(*sides(folders), AUTO, lambda _: None) as python:
        assert Path(python).exists()
        assert python != sys.executable
    assert not Path(python).exists()


def test_what_cannot_be_installed_is_told_with_pips_own_words(folders):
    (folders[0] / "pyproject.toml").unlink()
    (folders[0] / "requirements.txt").write_text("./nowhere\n")
    with (
        pytest.raises(
            CnnperfError, match=r"no environment could be created for the base base .*nowhere.*--base-python"
        ),
        interpreter_of(*sides(folders), AUTO, lambda _: None),
    ):
        pytest.fail("it was made")


def test_the_gate_measures_the_base_with_what_was_made_for_it(tmp_path, monkeypatch, capsys):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    commit(tmp_path, NETWORK.format(extra=""))
    (tmp_path / "requirements.txt").write_text("torch\n")
    monkeypatch.chdir(tmp_path)
    assert main(["gate", "--base", "HEAD", "--base-python", AUTO, "--only", "counters", *OWN]) == 2
    err = capsys.readouterr().err
    assert "creating an environment for the base" in err
    assert "the base cannot be measured: No module named" in err
