"""Files of the checkout that repeat each other: their versions, commands and lists must agree."""

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def test_the_hooks_run_the_commands_of_lint():
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.+)", hooks) == tox["testenv:lint"]["commands"].split("\n")[1:]


def test_the_hooks_have_the_versions_of_the_constraints():
    hooks = PIN.findall((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert len(hooks) >= 4
    assert set(hooks) <= set(PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8")))


def test_the_types_of_fragments_are_those_that_the_guide_names():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    types = [entry["directory"] for entry in config["type"]]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, sentence = text.partition("TYPE is one of")
    assert set(re.findall("`([a-z]+)`", sentence.partition(".\n")[0])) == set(types)
    for fragment in (ROOT / config["directory"]).glob("+*"):
        assert fragment.name.split(".")[-2] in types
