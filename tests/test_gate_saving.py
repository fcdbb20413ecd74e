"""A gate saved as a run file: read back like any other, with the ratio to its base."""

import json
import math
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from cnnperf.errors import CnnperfError
from cnnperf.gate.gate import BASE, CANDIDATE, CONTROL, Series
from cnnperf.gate.lockstep import Placement
from cnnperf.gate.saving import save_gate
from cnnperf.gate.sides import Side
from cnnperf.records.case import Case
from cnnperf.records.writing import check_folder
from cnnperf.runs import load_runs, load_samples, read_runs
from cnnperf.stats.sequential import Estimate, Judgement

OLD, NEW = Side("v1.0", "a" * 40, False, Path()), Side("work tree", "b" * 40, True, Path())
MACHINE = {"cpu_model": "Example CPU", "threads": 2}


def decided(architecture="lenet5", found=None):
    one = {BASE: [1e-3, 1.1e-3], CONTROL: [1e-3, 1e-3], CANDIDATE: [2e-3, 2.2e-3]}
    found = found or Estimate(math.log(2), math.log(1.9), math.log(2.1), 16, "re-instantiation", 0.03)
    series = Series(Case(architecture), first=[[Placement(one, one), Placement(one, one)]])
    series.decided = Judgement("slower", "found", found)
    return series


def test_a_saved_gate_is_read_like_any_run_with_the_ratio_to_its_base(tmp_path):
    path = save_gate(tmp_path, [decided()], (OLD, NEW), MACHINE, withdrawn=False)
    ((name, run),) = read_runs(path)
    assert name.startswith("gate-")
    assert (run.anchor, run.commit, run.environment, run.suite) == ("a" * 40, "b" * 10 + "+dirty", MACHINE, "gate")
    frame = load_runs(tmp_path).set_index("metric")
    assert frame.loc["anchor_ratio", ["value", "low", "high", "rounds"]].tolist() == pytest.approx([2, 1.9, 2.1, 16])
    assert frame.loc["latency", "value"] == pytest.approx(2.1e-3)
    assert load_samples(tmp_path).groupby("group").seconds.count().tolist() == [2, 2]


def test_a_saved_gate_holds_all_that_pytest_benchmark_reads(tmp_path):
    (benchmark,) = json.loads(save_gate(tmp_path, [decided()], (OLD, NEW), MACHINE, withdrawn=False).read_text())[
        "benchmarks"
    ]
    assert set(Stats.fields) <= set(benchmark["stats"])
    assert {"group", "name", "fullname", "params", "param", "extra_info"} <= set(benchmark)


def test_where_the_base_differed_from_itself_there_is_no_ratio_and_that_is_said(tmp_path):
    ((_, run),) = read_runs(save_gate(tmp_path, [decided()], (OLD, NEW), MACHINE, withdrawn=True))
    (record,) = run.cases
    assert "anchor_ratio" not in record.values
    assert [finding.kind for finding in record.findings] == ["control"]


def test_a_case_without_a_time_is_kept_with_its_reason(tmp_path):
    untimed = Series(Case("resnet18"), decided=Judgement("not-comparable", "no CUDA device", None))
    ((_, run),) = read_runs(save_gate(tmp_path, [untimed, decided()], (OLD, NEW), MACHINE, withdrawn=False))
    assert [one.reason for one in run.not_measured] == ["no CUDA device"]
    assert [record.case.architecture for record in run.cases] == ["lenet5"]


def test_a_folder_that_cannot_be_written_is_told_before_measuring(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CnnperfError, match="runs cannot be saved there"):
        check_folder(tmp_path / "file")


def test_a_full_disk_while_saving_loses_nothing_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = save_gate(tmp_path, [decided()], (OLD, NEW), MACHINE, withdrawn=False)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CnnperfError, match="No space left on device"):
        save_gate(tmp_path, [decided()], (OLD, NEW), MACHINE, withdrawn=False)
    assert list(tmp_path.iterdir()) == [before]
