"""Frames of comparisons and histories: one row a case or run, with types that do not depend on what was found."""

import json
import math

import numpy as np
import pytest
from documents import benchmark, document, metric

import cnnperf
from cnnperf.errors import OptionError, RunFileError
from cnnperf.testing import MadeHistory

ENVIRONMENT = {"cpu_model": "Example CPU", "cpu_count": 2}


def save(folder, commit, latencies, name="lenet5", kernels=3.0):
    folder.mkdir(exist_ok=True)
    for number, latency in enumerate(latencies):
        values = {"latency": metric("latency", latency), "kernels": metric("kernels", kernels)}
        found = document(benchmark(name, latency, metrics=values), environment=ENVIRONMENT)
        found["commit_info"] = {"id": commit * 40, "dirty": False}
        (folder / f"{commit}{number}.json").write_text(json.dumps(found))


def test_a_slowdown_is_a_row_with_its_ratio_and_interval(tmp_path):
    save(tmp_path / "base", "a", [1.0e-3, 1.001e-3, 0.999e-3])
    save(tmp_path / "head", "b", [1.2e-3, 1.201e-3, 1.199e-3])
    frame = cnnperf.compare_runs(tmp_path / "base", tmp_path / "head")
    row = frame.loc[0]
    assert (row["architecture"], row["metric"], row["verdict"]) == ("lenet5", "latency", "slower")
    assert row["low"] < 1.2 < row["high"]
    assert row["ratio"] == pytest.approx(1.2, rel=1e-3)
    assert (row["base"], row["candidate"]) == pytest.approx((1.0e-3, 1.2e-3))


def test_a_counter_that_differs_is_a_row_of_its_own(tmp_path):
    save(tmp_path / "base", "a", [1e-3])
    save(tmp_path / "head", "b", [1e-3], kernels=4.0)
    frame = cnnperf.compare_runs(tmp_path / "base", tmp_path / "head").set_index("metric")
    assert frame.loc["kernels", "verdict"] == "worse"
    assert frame.loc["kernels", "ratio"] == pytest.approx(4 / 3)


def test_cases_of_one_side_are_rows_without_a_ratio(tmp_path):
    save(tmp_path / "base", "a", [1e-3])
    save(tmp_path / "head", "b", [1e-3], name="resnet18")
    frame = cnnperf.compare_runs(tmp_path / "base", tmp_path / "head")
    assert list(frame["verdict"]) == ["gone", "new"]
    assert frame["ratio"].isna().all()
    assert str(frame["ratio"].dtype) == "float64"


def test_a_tolerance_that_nobody_can_read_is_refused(tmp_path):
    save(tmp_path, "a", [1e-3])
    with pytest.raises(OptionError, match="allow takes"):
        cnnperf.compare_runs(tmp_path, tmp_path, allow="much")


def test_the_history_marks_the_first_run_at_the_new_level(tmp_path):
    MadeHistory(runs=24, cases=2, rounds=5, spread=0.002, shift=0.1).write(tmp_path)
    frame = cnnperf.history(tmp_path)
    assert len(frame) == 48
    assert set(frame["series"]) == {0, 1}
    shifts = frame.dropna(subset="shift")
    assert list(shifts["commit"]) == [f"{13:08x}" + "00"] * 2
    assert shifts["shift"].between(0.09, 0.11).all()
    assert shifts["worse"].all()
    assert np.all(shifts["low"] < shifts["shift"])


def test_a_history_without_a_shift_has_the_same_types(tmp_path):
    MadeHistory(runs=9, cases=1, rounds=5).write(tmp_path / "still")
    MadeHistory(runs=24, cases=1, rounds=5, spread=0.002, shift=0.1).write(tmp_path / "moved")
    still, moved = (cnnperf.history(tmp_path / name) for name in ("still", "moved"))
    assert still["shift"].isna().all()
    assert [str(kind) for kind in still.dtypes] == [str(kind) for kind in moved.dtypes]
    assert math.isfinite(moved["shift"].max())


def test_metrics_and_cases_that_are_not_there_are_named(tmp_path):
    MadeHistory(runs=2, cases=1, rounds=5).write(tmp_path)
    with pytest.raises(OptionError, match="there is no metric 'speed'; the metrics are latency"):
        cnnperf.history(tmp_path, "speed")
    with pytest.raises(RunFileError, match="no run has a case 'vgg'; they have network0"):
        cnnperf.history(tmp_path, case="vgg")
