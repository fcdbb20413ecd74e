"""The tables that people need first, on a small frame whose ratios are known."""

import pytest
from documents import benchmark, document, metric

from cnnperf.cli import main
from cnnperf.runs import frame_of, pivots
from cnnperf.testing import MadeHistory


@pytest.fixture(scope="module")
def frame():
    memory = {
        "latency": metric("latency", 0.5),
        "parameter_memory": metric("parameter_memory", 100),
        "activation_memory": metric("activation_memory", 50),
    }
    cases = [
        benchmark("resnet18", 0.1, phase="train", batch=8),
        benchmark("resnet18", 0.05, phase="train", batch=8, engine="compile"),
        benchmark("resnet18", 0.02, phase="train", batch=8, device="cuda"),
        benchmark("se_resnet18", 0.12, phase="train", batch=8),
        benchmark("lenet5", metrics=memory, batch=4),
    ]
    return frame_of(document(*cases, not_measured=[{"axes": {"device": "cuda"}, "reason": "none"}]), "a")


def test_throughput_has_a_column_a_batch(frame):
    table = pivots.throughput(frame)
    assert table.loc[("a", "resnet18", "train", "cpu", "eager"), 8] == pytest.approx(80)


def test_ratios_are_above_one_where_the_thing_pays_or_costs(frame):
    assert pivots.cuda_over_cpu(frame).to_numpy().ravel().tolist() == pytest.approx([5])
    assert pivots.compiled_over_eager(frame)["compile"].tolist() == pytest.approx([2])
    assert pivots.se_tax(frame)["train"].dropna().tolist() == pytest.approx([1.2])


def test_memory_has_a_column_a_part(frame):
    assert pivots.memory_split(frame).to_numpy().tolist() == [[100, 50]]


@pytest.mark.parametrize("name", ["cuda_over_cpu", "compiled_over_eager", "se_tax"])
def test_where_there_is_nothing_to_compare_the_table_is_empty(name):
    assert getattr(pivots, name)(frame_of(document(benchmark(engine="compile")), "a")).empty


def test_a_made_history_is_what_it_says(tmp_path, capsys):
    MadeHistory(runs=24, cases=2, rounds=4, shift=0.1).write(tmp_path)
    assert main(["history", "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("2 changes for the worse")
    MadeHistory(runs=24, cases=2, rounds=4).write(tmp_path)
    assert main(["history", "--runs", str(tmp_path)]) == 0
