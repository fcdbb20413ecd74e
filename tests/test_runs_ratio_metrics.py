"""Paired ratios as metrics: which cases have them, where they appear, and their history across machines."""

from needs import needs

needs("ruptures", "tabulate")

import math
import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from blocks import block, cycles, record

import cnnperf
from cnnperf.cli import main
from cnnperf.records.case import Case
from cnnperf.records.files import read_run
from cnnperf.records.metrics import METRICS, RATIOS
from cnnperf.records.run import Run
from cnnperf.records.shards import Shard
from cnnperf.records.tolerance import parse_tolerance
from cnnperf.records.writing import save_run
from cnnperf.report.figures import figures
from cnnperf.report.markdown import run_markdown
from cnnperf.report.terminal import render_run
from cnnperf.runs.comparison import compare_sides
from cnnperf.runs.pairs import QUESTIONS
from cnnperf.runs.ratio_metrics import METRIC_OF, ratio_values, with_ratios
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.options import Options

EAGER, COMPILED = Case("resnet18"), Case("resnet18", engine="compile")
SE, SE_COMPILED = Case("se_resnet18"), Case("se_resnet18", engine="compile")
SECONDS = {EAGER: 2.5e-3, COMPILED: 2e-3, SE: 3e-3, SE_COMPILED: 2.1e-3}
PROCESSORS = ("Fast CPU", "Slow CPU")


def four(name="block", **changes):
    """Return a block of two networks and two engines."""
    groups = {case.replace(**changes): cycles(seconds) for case, seconds in SECONDS.items()}
    return block(groups, name)


def ratios_in(records):
    values = ratio_values({each.case: each for each in records})
    return {case: {name: value.value for name, value in own.items()} for case, own in values.items()}


def test_every_kind_of_pair_has_a_metric():
    assert set(METRIC_OF.values()) == set(RATIOS)
    assert [METRICS[name].better for name in RATIOS] == ["higher", "higher", "lower"]
    assert {METRICS[name].unit for name in RATIOS} == {"ratio"}


def test_a_case_has_one_cost_so_that_its_metric_means_one_thing():
    candidates = [question.candidate for question in QUESTIONS]
    assert len(candidates) == len(set(candidates))


def test_the_case_with_the_engine_or_the_part_has_the_ratio():
    found = ratios_in(four())
    assert {case: set(own) for case, own in found.items()} == {
        COMPILED: {"engine_ratio"},
        SE: {"part_ratio"},
        SE_COMPILED: {"engine_ratio", "part_ratio"},
    }
    assert found[COMPILED]["engine_ratio"] == pytest.approx(1.25, rel=0.02)
    assert found[SE]["part_ratio"] == pytest.approx(1.2, rel=0.02)


def test_cuda_has_the_ratio_to_the_cpu():
    on_cpu, on_cuda = EAGER, EAGER.replace(device="cuda")
    found = ratios_in(block({on_cpu: cycles(4e-3), on_cuda: cycles(1e-3)}))
    assert found == {on_cuda: {"device_ratio": pytest.approx(4.0, rel=0.02)}}


def test_the_metric_is_the_ratio_of_load_ratios_with_interval_unit_and_cycles(tmp_path):
    save_run(tmp_path / "a.json", with_ratios(Run(cases=tuple(four()))))
    frame = cnnperf.load_runs(tmp_path, where={"metric": "engine_ratio", "architecture": "resnet18"}).iloc[0]
    ratios = cnnperf.load_ratios(tmp_path).query("question == 'engine' and numerator_architecture == 'resnet18'")
    assert [frame[name] for name in ("value", "low", "high")] == ratios.iloc[0][["value", "low", "high"]].tolist()
    assert (frame["rounds"], frame["unit"]) == (20, "ratio")


def test_quotients_of_medians_are_no_metrics():
    assert ratios_in([record(case, cycles(seconds)) for case, seconds in SECONDS.items()]) == {}
    first, second = four("one"), four("another")
    assert ratios_in([*first[:1], *second[1:2]]) == {}


def test_the_first_of_several_engines_does_not_take_the_place_of_eager():
    groups = {COMPILED: cycles(2e-3), COMPILED.replace(engine="cudagraphs"): cycles(1e-3)}
    assert ratios_in(block(groups)) == {}


def test_nothing_else_of_a_run_changes_and_a_second_time_changes_nothing():
    run = Run(cases=tuple(four()), suite="default")
    once = with_ratios(run)
    assert with_ratios(once) == once
    for before, after in zip(run.cases, once.cases, strict=True):
        assert {name: value for name, value in after.values.items() if name not in RATIOS} == before.values


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_the_record_at_the_end_of_a_run_has_them_also_of_a_shard(shard):
    session = BenchRun(Options(shard=shard), 4, SimpleNamespace(ceilings={}))
    session.records += four()
    assert [set(each.values) & set(RATIOS) for each in session.finished({}).cases] == [
        set(),
        {"engine_ratio"},
        {"part_ratio"},
        {"engine_ratio", "part_ratio"},
    ]


def test_a_shard_has_the_ratios_of_its_blocks_and_the_merged_run_those_of_all(tmp_path):
    for number, precision in enumerate(("fp32", "bf16"), start=1):
        facts = {"shard": f"{number}/2", "of_cases": "0123", "suite": "default"}
        part = with_ratios(Run(cases=tuple(four(precision=precision)), **facts))
        assert len(ratios_in(part.cases)) == 3
        save_run(tmp_path / "shards" / f"{number}.json", part)
    merged = tmp_path / "merged.json"
    assert main(["merge", str(tmp_path / "shards"), "--out", str(merged)]) == 0
    frame = cnnperf.load_runs(merged, where={"metric": list(RATIOS)})
    assert frame.groupby("precision", observed=True).size().to_dict() == {"fp32": 4, "bf16": 4}


def test_shards_that_were_saved_without_ratios_get_them_when_they_are_merged(tmp_path):
    save_run(tmp_path / "1.json", Run(cases=tuple(four()), shard="1/1", of_cases="0123", suite="default"))
    assert main(["merge", str(tmp_path / "1.json"), "--out", str(tmp_path / "merged.json")]) == 0
    assert set(read_run(tmp_path / "merged.json").cases[1].values) == {"latency", "engine_ratio"}


def test_reports_of_a_run_do_not_change_by_its_metrics():
    run = Run(cases=tuple(four()), time=datetime(2026, 1, 1, tzinfo=UTC))
    other = with_ratios(run)
    assert render_run(run) == render_run(other)
    assert run_markdown("a", run) == run_markdown("a", other)
    assert figures([("a", run)]) == figures([("a", other)])


def test_the_page_of_a_run_does_not_change_by_its_metrics():
    needs("altair", "jinja2")
    from cnnperf.report.html import page_of

    run = Run(cases=tuple(four()), time=datetime(2026, 1, 1, tzinfo=UTC))
    assert page_of("a", run) == page_of("a", with_ratios(run))


def test_services_that_take_a_rise_for_a_regression_do_not_get_ratios(tmp_path, capsysbinary):
    save_run(tmp_path / "a.json", with_ratios(Run(cases=tuple(four()))))
    for kind in ("github", "bencher"):
        assert main(["export", str(tmp_path / "a.json"), "--format", kind]) == 0
        assert b"ratio" not in capsysbinary.readouterr().out
    assert main(["export", str(tmp_path / "a.json"), "--format", "csv"]) == 0
    assert b"part_ratio" in capsysbinary.readouterr().out


def test_a_comparison_of_runs_does_not_judge_ratios():
    run = with_ratios(Run(cases=tuple(four())))
    worse = {case: seconds * (2 if case == SE else 1) for case, seconds in SECONDS.items()}
    other = with_ratios(Run(cases=tuple(block({case: cycles(seconds) for case, seconds in worse.items()}))))
    comparison = compare_sides([("a", run)], [("b", other)], parse_tolerance(["5%"]), any_machine=True)
    assert not comparison.counters


def write_history(
    folder, *, shift=1.0, at=12, runs=24, change=lambda number: number % 2, torch=lambda number: "2.12.0"
):
    """Write runs of two machines of unlike speed; from run `at` on, compilation takes `shift` times as long."""
    for number in range(runs):
        machine = change(number)
        generator = random.Random(number)
        slow = 2.5 if machine else 1.0
        seconds = dict(SECONDS)
        for case in (COMPILED, SE_COMPILED):
            seconds[case] *= (shift if number >= at else 1.0) * math.exp(generator.gauss(0, 0.004))
        groups = {case: cycles(slow * each, count=8, seed=number) for case, each in seconds.items()}
        run = Run(
            cases=tuple(block(groups)),
            commit_info={"id": f"{number:08x}" * 5, "dirty": False},
            time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
            environment={"cpu_model": PROCESSORS[machine], "cpu_count": 2 + machine, "torch": torch(number)},
        )
        save_run(folder / f"{number:04}.json", with_ratios(run))
    return folder


def test_a_series_of_a_ratio_continues_across_machines(tmp_path):
    write_history(tmp_path)
    seconds, ratios = (cnnperf.history(tmp_path, metric, "resnet18*") for metric in ("latency", "engine_ratio"))
    assert seconds["series"].nunique() == 4
    assert ratios["series"].nunique() == 1
    assert len(ratios) == 24


@pytest.mark.parametrize("change", [lambda number: number % 2, lambda number: int(number >= 12)])
def test_a_change_of_machine_alone_is_no_shift(tmp_path, change):
    write_history(tmp_path, change=change)
    assert cnnperf.history(tmp_path, "ratio")["shift"].isna().all()


def test_a_shift_of_a_tenth_is_found_in_runs_of_two_machines(tmp_path):
    write_history(tmp_path, shift=1.1)
    frame = cnnperf.history(tmp_path, "engine_ratio").dropna(subset="shift")
    assert set(frame["architecture"]) == {"resnet18", "se_resnet18"}
    assert frame["worse"].all()
    assert frame["shift"].tolist() == pytest.approx([1 / 1.1 - 1] * 2, abs=0.02)


def test_software_and_processors_that_changed_with_a_ratio_are_reported(tmp_path, capsys):
    write_history(
        tmp_path,
        shift=1.1,
        change=lambda number: int(number >= 12),
        torch=lambda number: "2.13.0" if number >= 12 else "2.12.0",
    )
    assert main(["history", "resnet18*", "--metric", "engine_ratio", "--runs", str(tmp_path)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "with it cpu_model Fast CPU -> Slow CPU, torch 2.12.0 -> 2.13.0" in out
    assert "engine_ratio, relative to eager" in out


def test_the_name_ratio_stands_for_all_three_metrics(tmp_path, capsys):
    write_history(tmp_path)
    frame = cnnperf.history(tmp_path, "ratio")
    series = frame.groupby("series")["metric"].first().value_counts().to_dict()
    assert {name: count for name, count in series.items() if count} == {"engine_ratio": 2, "part_ratio": 2}
    assert main(["history", "--metric", "ratio", "--runs", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "in 4 series of engine_ratio, part_ratio." in out
    assert "part_ratio, relative to resnet18" in out


def test_the_history_of_a_dataset_is_that_of_the_folder(tmp_path):
    needs("fsspec", "pyarrow")
    write_history(tmp_path / "runs", shift=1.1)
    assert main(["export", "--runs", str(tmp_path / "runs"), "--parquet", str(tmp_path / "fleet")]) == 0
    for metric in (*RATIOS[::2], "ratio"):
        folder, fleet = (cnnperf.history(tmp_path / name, metric) for name in ("runs", "fleet"))
        assert fleet["series"].nunique() == folder["series"].nunique()
        columns = ["architecture", "engine", "metric", "time", "value", "shift", "worse"]
        one, other = (each[columns].sort_values(columns[:4]).to_csv(index=False) for each in (folder, fleet))
        assert one == other


def test_the_list_of_metrics_explains_the_ratios(capsys):
    assert main(["list", "metrics"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "engine_ratio (ratio, higher is better, measured): latency in eager mode over that with the engine" in out
    assert "part_ratio (ratio, lower is better, measured): latency with a part over that without it" in out
