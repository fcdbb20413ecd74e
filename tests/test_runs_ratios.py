"""The frame of ratios: a row a compared pair, from every kind of saved run."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from blocks import block, cycles, record
from documents import benchmark, document, foreign, journal
from needs import needs

import cnnperf
from cnnperf.cli import main
from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.records.layout import JOURNAL_SUFFIX
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord, Over, Run
from cnnperf.records.writing import document_of, save_run
from cnnperf.runs.ratio_frame import COLUMNS, ratios_of_runs

EAGER, COMPILED = Case("resnet18"), Case("resnet18", engine="compile")
WITH_SE = Case("se_resnet18")


def frame_of(*records, **facts):
    return ratios_of_runs([("a", Run(cases=tuple(records), **facts))])


def engines(**changes):
    """Return a block of two engines, of which eager takes 1.25 times as long."""
    seconds = {EAGER.replace(**changes): 2.5e-3, COMPILED.replace(**changes): 2e-3}
    return block({case: cycles(each) for case, each in seconds.items()})


def test_a_pair_of_a_block_is_a_row_with_the_paired_ratio(tmp_path):
    save_run(tmp_path / "0001_a.json", Run(cases=tuple(engines()), commit_info={"id": "a" * 40}))
    frame = cnnperf.load_ratios(tmp_path)
    assert tuple(frame.columns) == COLUMNS
    (row,) = frame.to_dict("records")
    assert (row["run"], row["commit"], row["question"]) == ("0001_a", "a" * 10, "engine")
    assert (row["numerator_engine"], row["denominator_engine"]) == ("eager", "compile")
    assert (row["numerator_batch"], row["denominator_batch"]) == (EAGER.batch, EAGER.batch)
    assert (row["cycles"], row["processes"], row["paired"], row["verdict"]) == (20, 1, True, "above")
    assert row["low"] < 1.25 < row["high"]
    assert row["value"] == pytest.approx(1.25, rel=0.01)


def test_the_types_of_the_columns_do_not_depend_on_the_rows():
    full, empty = frame_of(*engines()), frame_of()
    assert (len(full), len(empty)) == (1, 0)
    assert [str(kind) for kind in full.dtypes] == [str(kind) for kind in empty.dtypes]
    assert str(full["time"].dtype) == "datetime64[us, UTC]"
    assert {str(full[name].dtype) for name in ("value", "low", "high")} == {"float64"}
    assert str(full["cycles"].dtype) == str(full["numerator_batch"].dtype) == "Int64"
    assert str(full["paired"].dtype) == "bool"
    assert str(full["denominator_device"].dtype) == "category"


@pytest.mark.parametrize("schema", [1, 2])
def test_ratios_of_files_without_blocks_are_quotients_of_medians(tmp_path, schema):
    cases = [benchmark("resnet18", 0.1), benchmark("se_resnet18", 0.12), benchmark("resnet18", 0.05, engine="compile")]
    for case in cases:
        case["extra_info"]["cnnperf"] = schema
    (tmp_path / "a.json").write_text(json.dumps(document(*cases, schema=schema)))
    frame = cnnperf.load_ratios(tmp_path / "a.json").set_index("question")
    assert dict(frame["value"]) == pytest.approx({"engine": 2.0, "Squeeze-and-Excitation": 1.2})
    assert not frame["paired"].any()
    assert frame["cycles"].isna().all()
    assert frame["low"].notna().all()


def test_cases_of_two_blocks_are_compared_without_being_paired():
    first, second = engines(), engines(precision="bf16")
    apart = [CaseRecord(each.case, each.values, block="another", ratios=each.ratios) for each in first[:1]]
    frame = frame_of(*apart, *first[1:], *second).set_index("numerator_precision")
    assert dict(frame["paired"]) == {"fp32": False, "bf16": True}
    assert frame.loc["fp32", "value"] == pytest.approx(1.25, rel=0.01)


def test_a_ratio_without_interval_has_no_verdict():
    frame = frame_of(*(CaseRecord(case, {"latency": Value(1.0)}) for case in (EAGER, COMPILED)))
    (row,) = frame.to_dict("records")
    assert (row["value"], row["verdict"], math.isnan(row["low"])) == (1.0, "unknown", True)


def alone(value):
    """Return two engines whose paired ratio is given."""
    latency = {"latency": Value(1.0, 0.9, 1.1)}
    overs = (Over({"engine": "compile"}, value),)
    return [CaseRecord(EAGER, latency, block="b", ratios=overs), CaseRecord(COMPILED, latency, block="b")]


def test_the_verdicts_of_a_run_hold_together():
    ratio = Value(1.05, 1.006, 1.096, 50)  # excludes 1 by itself, and not as one of many
    many = [
        CaseRecord(each.case.replace(batch=batch), each.values, block=f"b{batch}", ratios=each.ratios)
        for batch in range(1, 21)
        for each in alone(ratio)
    ]
    assert set(frame_of(*alone(ratio))["verdict"]) == {"above"}
    assert set(frame_of(*many)["verdict"]) == {"unsure"}


def test_the_smallest_difference_of_the_run_decides_what_is_the_same():
    ratio = Value(1.02, 1.01, 1.03, 50)
    verdicts = [frame_of(*alone(ratio), smallest_difference=least).loc[0, "verdict"] for least in (0.02, 0.1)]
    assert verdicts == ["above", "same"]


def test_devices_engines_and_parts_are_questions():
    cases = [Case(name, device=device) for name in ("resnet18", "se_resnet18") for device in ("cpu", "cuda")]
    frame = frame_of(*(record(case, cycles(1e-3)) for case in (*cases, COMPILED)))
    assert frame["question"].value_counts().to_dict() == {"Squeeze-and-Excitation": 2, "device": 2, "engine": 1}
    devices = frame[frame["question"] == "device"]
    assert set(zip(devices["numerator_device"], devices["denominator_device"], strict=True)) == {("cpu", "cuda")}


def test_forms_of_a_part_are_compared_as_the_fusion_benchmark_shows_them():
    names = {"part:se": 3e-3, "fused:part:se": 2e-3, "part:se_copy": 1e-3}
    frame = frame_of(*block({Case(name, batch=8): cycles(seconds) for name, seconds in names.items()}))
    assert set(frame["question"]) == {"form"}
    pairs = zip(frame["numerator_architecture"], frame["denominator_architecture"], strict=True)
    assert set(pairs) == {("part:se", "fused:part:se"), ("fused:part:se", "part:se_copy")}
    assert frame["paired"].all()


def test_rows_of_several_runs_have_the_names_of_their_runs(tmp_path):
    for name in ("0001_a", "0002_b"):
        save_run(tmp_path / f"{name}.json", Run(cases=tuple(engines())))
    assert list(cnnperf.load_ratios(tmp_path)["run"]) == ["0001_a", "0002_b"]


def test_the_journal_of_an_interrupted_run_has_ratios(tmp_path):
    whole = document_of(Run(cases=tuple(engines())))
    (tmp_path / f"run{JOURNAL_SUFFIX}").write_text(journal(whole))
    assert list(cnnperf.load_ratios(tmp_path)["paired"]) == [True]


def test_a_merged_run_has_the_ratios_of_its_shards(tmp_path):
    for number, precision in enumerate(("fp32", "bf16"), start=1):
        run = Run(cases=tuple(engines(precision=precision)), shard=f"{number}/2", of_cases="0123", suite="default")
        save_run(tmp_path / "shards" / f"{number}.json", run)
    merged = tmp_path / "merged.json"
    assert main(["merge", str(tmp_path / "shards"), "--out", str(merged)]) == 0
    frame = cnnperf.load_ratios(merged)
    assert list(frame["numerator_precision"]) == ["fp32", "bf16"]
    assert frame["paired"].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a.json: not valid JSON"),
        (json.dumps({"benchmarks": 7, "machine_info": {}}), "benchmarks: a list is needed here, found 7"),
        (json.dumps(document(benchmark(), schema=9)), "schema 9, this version of cnnperf reads up to 2"),
        (json.dumps({"benchmarks": [foreign()], "machine_info": {}}), "no runs in"),
    ],
)
def test_a_file_that_cannot_be_read_is_the_error_of_load_runs(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(RunFileError, match=message):
        cnnperf.load_ratios(tmp_path / "a.json")


def test_no_file_is_the_error_of_load_runs(tmp_path):
    with pytest.raises(RunFileError, match="no such file or directory"):
        cnnperf.load_ratios(tmp_path / "nowhere")


def test_the_dataset_of_a_fleet_has_the_ratios_of_its_runs(tmp_path):
    needs("fsspec", "pyarrow")
    save_run(tmp_path / "runs" / "0001_a.json", Run(cases=tuple(engines())))
    assert main(["export", "--runs", str(tmp_path / "runs"), "--parquet", str(tmp_path / "fleet")]) == 0
    fleet, folder = (cnnperf.load_ratios(tmp_path / name) for name in ("fleet", "runs"))
    names = fleet["run"].cat.rename_categories(lambda name: name.rpartition("/")[2])
    pd.testing.assert_frame_equal(fleet.assign(run=names), folder, check_categorical=False)


def printed_by(example, capsys):
    """Return what an example of docs/frame.md prints."""
    text = Path(__file__).parents[1].joinpath("docs", "frame.md").read_text(encoding="utf-8")
    code = text.partition(f"<!-- example:{example} -->\n```python\n")[2].partition("```")[0]
    exec(compile(code, "frame.md", "exec"), {})
    return capsys.readouterr().out


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Save two runs as the examples of the documentation name them."""
    monkeypatch.chdir(tmp_path)
    seconds = {EAGER: 2.5e-3, COMPILED: 2e-3, WITH_SE: 3e-3}
    for number, name in enumerate(("0001_base", "0002_next")):
        groups = {
            case.replace(phase="train", batch=8): cycles(each, seed=number, spread=0.1)
            for case, each in seconds.items()
        }
        save_run(tmp_path / ".benchmarks" / f"{name}.json", Run(cases=tuple(block(groups))))


def test_the_documented_lines_compute_a_paired_ratio_from_the_raw_rounds(saved, capsys):
    ratios = cnnperf.load_ratios(".benchmarks").query("run == '0001_base' and question == 'engine'")
    assert float(printed_by("ratio", capsys)) == pytest.approx(ratios["value"].item())


def test_the_documented_lines_print_the_cost_of_a_part_over_all_runs(saved, capsys):
    out = printed_by("cost", capsys)
    ratios = cnnperf.load_ratios(".benchmarks").query("question == 'Squeeze-and-Excitation'")
    assert len(ratios) == 2
    for name, value in zip(ratios["run"], ratios["value"], strict=True):
        (line,) = (line for line in out.splitlines() if line.startswith(name))
        assert line.split()[1:4] == ["eager", "8", f"{(value - 1) * 100:.1f}"]
