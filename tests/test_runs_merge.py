"""Shards merged to one run, and everything that does not belong together refused."""

import json

import pytest
from documents import benchmark, document, foreign

from cnnperf import load_runs
from cnnperf.cli import main
from cnnperf.records.files import read_run
from cnnperf.runs.sweeps import with_sweeps

ENVIRONMENT = {"cpu_model": "Example CPU", "cpu_count": 2, "load_average": 0.1}


def shard(folder, number, *names, of=2, commit="a", environment=ENVIRONMENT, name=None, latency=1e-3, **facts):
    folder.mkdir(exist_ok=True)
    cases = [benchmark(one, latency) | {"fullname": f"test.py::{one}"} for one in names]
    facts = {"shard": f"{number}/{of}", "of_cases": "0123", "planned": len(names), "environment": environment} | facts
    found = document(*cases, **facts) | {"commit_info": {"id": commit * 40, "dirty": False}}
    found["datetime"] = f"2026-05-0{number}T00:00:00+00:00"
    path = folder / f"{name or number}.json"
    path.write_text(json.dumps(found))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shards"


def merge(*more):
    return main(["merge", "shards", "--out", "merged.json", *more])


def batches(folder, number, **latencies):
    """Write a shard with some batches of one sweep."""
    path = shard(folder, number)
    content = json.loads(path.read_text())
    cases = [benchmark(latency=latency, half=0.001, batch=int(name[1:])) for name, latency in latencies.items()]
    content["benchmarks"] = [one | {"fullname": f"test.py::{one['params']['batch']}"} for one in cases]
    path.write_text(json.dumps(content))
    return path


def test_what_a_sweep_says_is_known_once_its_parts_are_together(folder):
    first = batches(folder, 1, b1=1e-3, b4=1.4e-3, b16=4.5e-3)
    batches(folder, 2, b2=1.1e-3, b8=2.3e-3)
    assert merge() == 0
    knees = load_runs("merged.json", where={"metric": "knee_batch"})
    assert list(knees.batch) == [8]
    part = read_run(first)
    assert with_sweeps(part) == part  # as its run would do at its end


def test_all_shards_become_one_run(folder, capsys):
    missing = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    shard(folder, 2, "resnet18", environment=ENVIRONMENT | {"load_average": 1.5}, not_measured=missing)
    shard(folder, 1, "lenet5", "lenet5_avg", not_measured=missing)
    assert merge() == 0
    assert capsys.readouterr().out == "wrote merged.json: 3 cases\n"
    merged = json.loads((folder.parent / "merged.json").read_text())
    assert [one["params"]["architecture"] for one in merged["benchmarks"]] == ["lenet5", "lenet5_avg", "resnet18"]
    facts = merged["cnnperf"]
    assert (facts["planned"], facts["wall_seconds"], facts["not_measured"]) == (3, 200.0, missing)
    assert "shard" not in facts
    frame = load_runs(folder.parent / "merged.json")
    assert set(frame["architecture"]) >= {"lenet5", "lenet5_avg", "resnet18"}


def test_what_others_have_written_into_a_shard_is_kept(folder):
    path = shard(folder, 1, "lenet5", of=1)
    content = json.loads(path.read_text())
    content["benchmarks"][0]["extra_info"]["note"] = "by a hook of the user"
    content["benchmarks"][0]["options"] = {"rounds": 3}
    content["benchmarks"].append(foreign() | {"stats": {"median": 0.1, "iqr": 0.01}})
    path.write_text(json.dumps(content))
    assert merge() == 0
    ours, others = json.loads((folder.parent / "merged.json").read_text())["benchmarks"]
    assert (ours["extra_info"]["note"], ours["options"]) == ("by a hook of the user", {"rounds": 3})
    assert others["stats"] == {"median": 0.1, "iqr": 0.01}


def test_a_case_that_two_shards_have_alike_is_kept_once(folder, capsys):
    shard(folder, 1, "lenet5")
    shard(folder, 2, "lenet5")
    assert merge() == 0
    assert "1 cases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"commit": "b"}, "1.json and 2.json are of two commits, 'aaaaaaaaaa' and 'bbbbbbbbbb'"),
        ({"environment": ENVIRONMENT | {"cpu_count": 4}}, "unlike environments (cpu_count: 2 and 4)"),
        ({"of": 3}, "are of two numbers of shards, 2 and 3"),
        ({"of_cases": "4567"}, "are of two values of of_cases"),
        ({"suite": "full"}, "are of two values of suite, 'default' and 'full'"),
        ({"latency": 2e-3}, "test.py::lenet5 is in 1.json and in 2.json with different results"),
    ],
)
def test_what_does_not_belong_together_is_refused_and_nothing_is_written(folder, capsys, how, told):
    shard(folder, 1, "lenet5")
    shard(folder, 2, "lenet5", **how)
    assert merge() == 2
    assert told in capsys.readouterr().err
    assert not (folder.parent / "merged.json").exists()


def test_missing_shards_are_named(folder, capsys):
    shard(folder, 2, "lenet5", of=3)
    assert merge() == 2
    assert "the shards 1/3, 3/3 are missing; --allow-missing" in capsys.readouterr().err
    assert merge("--allow-missing") == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps(document(benchmark())), "not a run of a shard; those are made with --cnnperf-shard"),
        (json.dumps(document(benchmark(), shard="6/5")), "cnnperf.shard takes the number of a shard"),
        ("[1]", "not a run of a shard"),
        ('{"cnnperf": 7, "benchmarks": []}', "$.cnnperf: an object is needed here, found 7"),
        ('{"machine_info', "cut short"),
    ],
)
def test_files_that_are_no_shards_are_named(folder, capsys, text, told):
    shard(folder, 1, "lenet5")
    (folder / "other.json").write_text(text)
    assert merge() == 2
    err = capsys.readouterr().err
    assert "other.json: " in err
    assert told in err


def test_other_programs_on_the_gpu_in_one_moment_make_no_two_environments(folder):
    shard(folder, 1, "test_one", environment={**ENVIRONMENT, "gpu_other_processes": 0})
    shard(folder, 2, "test_two", environment={**ENVIRONMENT, "gpu_other_processes": 3})
    assert merge() == 0
