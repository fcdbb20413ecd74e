"""The commit of a checkout that has no git folder."""

import json

import pytest

from cnnperf.errors import OptionError
from cnnperf.records.commit import name_commit

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("named", "found", "dirty"),
    [(COMMIT, COMMIT, False), ("abcdef0-dirty", "abcdef0", True), ("", "unversioned", False)],
)
def test_the_commit_is_that_of_the_environment_where_there_is_no_repository(named, found, dirty):
    info = {"id": "unversioned", "dirty": False}
    name_commit(info, {"CNNPERF_COMMIT": named})
    assert info == {"id": found, "dirty": dirty}


def test_a_repository_knows_better():
    info = {"id": "fedcba9", "dirty": True}
    name_commit(info, {"CNNPERF_COMMIT": COMMIT})
    assert info == {"id": "fedcba9", "dirty": True}


@pytest.mark.parametrize("named", ["main", "12345", "xyz1234", COMMIT + "0", "abcdef0-clean", " "])
def test_what_is_no_commit_is_refused_with_how_to_get_one(named):
    with pytest.raises(OptionError, match="git describe --always --dirty"):
        name_commit({"id": "unknown"}, {"CNNPERF_COMMIT": named})


def test_a_run_in_a_copy_is_saved_with_its_commit(pytester, monkeypatch):
    monkeypatch.setenv("CNNPERF_COMMIT", COMMIT)
    pytester.makepyfile("def test_one(benchmark): benchmark(lambda: None)")
    pytester.runpytest_subprocess("--benchmark-json=run.json", "-p", "no:cacheprovider")
    assert json.loads((pytester.path / "run.json").read_text())["commit_info"]["id"] == COMMIT
    monkeypatch.setenv("CNNPERF_COMMIT", "main")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*CNNPERF_COMMIT takes the 7 to 40 hexadecimal digits*"])
