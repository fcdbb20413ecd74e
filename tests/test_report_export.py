"""The formats of others: what their documentation asks for is there, and nothing that JSON cannot hold."""

import json
from io import BytesIO, StringIO

import pandas as pd
import pytest
from documents import benchmark, document, metric
from golden import golden

from cnnperf.cli import main
from cnnperf.report.export import FORMATS
from cnnperf.runs import frame_of, parse_document

RUNS = [("0001_a", parse_document(document(benchmark(), benchmark("resnet18", 0.1))))]
LABEL = "lenet5 forward cpu eager batch 64"


def test_csv_is_the_tidy_frame():
    text = FORMATS["csv"](RUNS).decode()
    assert text == golden("runs.csv", text)
    frame = pd.read_csv(StringIO(text), keep_default_na=False)
    assert list(frame.columns) == list(frame_of(document(benchmark()), "x").columns)
    assert len(frame) == 10


def test_parquet_is_the_tidy_frame_with_its_types():
    frame = pd.read_parquet(BytesIO(FORMATS["parquet"](RUNS)))
    assert str(frame.time.dtype).startswith("datetime64")
    assert frame[frame.metric == "latency"].value.tolist() == [1e-3, 0.1]


def test_for_github_action_benchmark_smaller_is_better_with_name_unit_value_and_range():
    entries = json.loads(FORMATS["github"](RUNS))
    assert {"name": f"{LABEL}: latency", "unit": "s", "value": 1e-3, "range": "± 2.0%"} in entries
    assert {"name": f"{LABEL}: peak_memory", "unit": "B", "value": 12.5 * 2**20} in entries
    assert not any("throughput" in entry["name"] for entry in entries)


def test_for_bencher_latency_is_in_nanoseconds_between_its_bounds():
    measures = json.loads(FORMATS["bencher"](RUNS))[LABEL]
    assert measures["latency"] == pytest.approx({"value": 1e6, "lower_value": 0.98e6, "upper_value": 1.02e6})
    assert measures["peak-memory"] == {"value": 12.5 * 2**20}


@pytest.mark.parametrize("name", ["github", "bencher"])
def test_what_is_not_finite_is_left_out(name):
    values = {"latency": metric("latency", float("nan")), "peak_memory": metric("peak_memory", float("inf"))}
    text = FORMATS[name]([("x", parse_document(document(benchmark(metrics=values))))]).decode()
    json.loads(text, parse_constant=pytest.fail)


def test_the_command_writes_to_a_file_or_to_the_terminal(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(document(benchmark())))
    assert main(["export", "a.json"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"run,time,commit")
    assert main(["export", "a.json", "--format", "bencher", "--out", "made/bencher.json"]) == 0
    assert json.loads((tmp_path / "made" / "bencher.json").read_text())
