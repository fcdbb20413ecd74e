"""The cache of a folder: the same frame with it and without, whatever happened to the files."""

from needs import needs

needs("pyarrow")

import builtins
import os

import pandas as pd
import pytest
from pyarrow import parquet

from cnnperf.runs import cache, load_runs
from cnnperf.runs import folder as reading
from cnnperf.runs.cache import FOLDER
from cnnperf.testing import MadeHistory

RUNS = 6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LEAST_FILES", 2)
    MadeHistory(runs=RUNS, cases=3, rounds=3).write(tmp_path)
    return tmp_path


@pytest.fixture
def files_read(monkeypatch):
    """Note the names of the files that are read."""
    names = []
    real = reading._read_file
    monkeypatch.setattr(reading, "_read_file", lambda file, **how: names.append(file.name) or real(file, **how))
    return names


def without_cache(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(reading, "LEAST_FILES", 10**6)
        return load_runs(folder)


def same(one, other):
    pd.testing.assert_frame_equal(one, other, check_categorical=False)
    assert [str(kind) for kind in one.dtypes] == [str(kind) for kind in other.dtypes]


def test_a_second_reading_reads_no_file_and_gives_the_same_frame(folder, files_read, monkeypatch):
    expected = without_cache(folder, monkeypatch)
    same(load_runs(folder), expected)
    files_read.clear()
    same(load_runs(folder), expected)
    assert files_read == []


def test_only_what_is_new_or_changed_is_read_and_what_is_gone_is_dropped(folder, files_read, monkeypatch):
    load_runs(folder)
    files_read.clear()
    made = MadeHistory(runs=RUNS + 1, cases=2, rounds=3, seed=1)
    made.write(folder / "more")
    (folder / "0002_made.json").unlink()
    changed = folder / "0003_made.json"
    changed.write_text(changed.read_text().replace("Made CPU", "Changed CPU"))
    found = load_runs(folder)
    assert sorted(files_read) == sorted(["0003_made.json", *(path.name for path in (folder / "more").iterdir())])
    same(found, without_cache(folder, monkeypatch))
    assert "Changed CPU" in set(found.machine)


def test_a_file_of_the_same_size_that_was_written_anew_is_read(folder, monkeypatch):
    load_runs(folder)
    path = folder / "0001_made.json"
    path.write_text(path.read_text().replace("Made CPU", "More CPU"))
    os.utime(path, ns=(0, 12345))
    assert "More CPU" in set(load_runs(folder).machine)


def test_a_damaged_cache_is_made_anew(folder, monkeypatch):
    expected = load_runs(folder)
    (folder / FOLDER / "frame.parquet").write_bytes(b"PAR1 nothing")
    same(load_runs(folder), expected)
    same(load_runs(folder), expected)


@pytest.mark.parametrize("metadata", ["{}", "null", "[]", '{"version": "1.1"}', '{"version": "1.1", "files": 7}'])
def test_a_cache_that_says_something_else_is_made_anew(folder, metadata):
    expected = load_runs(folder)
    path = folder / FOLDER / "frame.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.replace_schema_metadata({b"cnnperf": metadata.encode()}), path)
    same(load_runs(folder), expected)


def test_a_file_that_is_no_run_is_told_each_time(folder):
    (folder / "other.json").write_text("[]")
    for _ in range(3):
        with pytest.warns(UserWarning, match="other.json: skipped, not a run file"):
            load_runs(folder)


def test_a_cache_of_another_version_is_made_anew(folder, files_read, monkeypatch):
    load_runs(folder)
    files_read.clear()
    monkeypatch.setattr(cache, "_VERSION", "0")
    load_runs(folder)
    assert len(files_read) == RUNS


def test_where_the_cache_cannot_be_written_the_frame_is_read_all_the_same(folder, monkeypatch):
    (folder / FOLDER).touch()
    assert set(load_runs(folder).run) == {f"000{number}_made" for number in range(1, RUNS + 1)}


def test_without_pyarrow_there_is_no_cache(folder, monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments, **named):
        if name.startswith("pyarrow"):
            raise ImportError(name, name=name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    assert len(load_runs(folder)) == RUNS * 3 * 5
    assert not (folder / FOLDER).exists()


def test_a_few_files_make_no_cache(tmp_path):
    MadeHistory(runs=2, cases=1).write(tmp_path)
    load_runs(tmp_path)
    assert not (tmp_path / FOLDER).exists()
