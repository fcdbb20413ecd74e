"""The tables that people need first, on a small frame whose ratios are known."""

import pandas as pd
import pytest
from blocks import block, cycles
from documents import benchmark, document, metric

from cnnperf.cli import main
from cnnperf.records.case import Case
from cnnperf.records.run import Run
from cnnperf.runs import frame_of, pivots
from cnnperf.runs.frame import frame_of_runs
from cnnperf.runs.ratio_metrics import with_ratios
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


def side_by_side(seconds, factor=2.0):
    """Return the frame of a block with ratios, of whose cases the medians say something else."""
    records = block({case: cycles(each) for case, each in seconds.items()})
    last = records[-1]
    records[-1] = last.with_values({"latency": last.values["latency"].scaled(factor)})
    return frame_of_runs([("a", with_ratios(Run(cases=tuple(records))))])


def test_ratios_of_cases_side_by_side_are_the_paired_ones():
    eager, with_se = Case("resnet18", batch=8), Case("se_resnet18", batch=8)
    compiled = pivots.compiled_over_eager(side_by_side({eager: 3e-3, eager.replace(engine="compile"): 2e-3}))
    assert compiled["compile"].tolist() == pytest.approx([1.5], rel=0.02)
    tax = pivots.se_tax(side_by_side({eager: 2e-3, with_se: 3e-3}))
    assert tax["forward"].tolist() == pytest.approx([1.5], rel=0.02)
    devices = pivots.cuda_over_cpu(side_by_side({eager: 3e-3, eager.replace(device="cuda"): 2e-3}))
    assert devices.to_numpy().ravel().tolist() == pytest.approx([1.5], rel=0.02)


def test_ratios_of_other_cases_of_the_frame_stay_quotients_of_medians(frame):
    eager = Case("resnet18", phase="forward", batch=8)
    both = pd.concat([frame, side_by_side({eager: 3e-3, eager.replace(engine="compile"): 2e-3})], ignore_index=True)
    table = pivots.compiled_over_eager(both)["compile"]
    assert sorted(table) == pytest.approx([1.5, 2.0], rel=0.02)


def test_the_tax_of_another_pair_of_networks_is_not_the_paired_ratio():
    plain, with_se = Case("resnet18", batch=8), Case("se_resnet18", batch=8)
    frame = side_by_side({plain.replace(architecture="lenet5"): 1e-3, plain: 2e-3, with_se: 3e-3}, factor=1.0)
    assert pivots.se_tax(frame, plain="lenet5")["forward"].tolist() == pytest.approx([3.0], rel=0.02)


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
