import json
import math
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from documents import benchmark, document, finding, foreign, journal, metric
from hypothesis import given
from hypothesis import strategies as st

from cnnperf.errors import RunFileError
from cnnperf.records.case import LAYOUTS, PHASES, PRECISIONS
from cnnperf.records.engines import ENGINES
from cnnperf.runs import frame_of, load_runs, load_samples, read_runs, samples_of
from cnnperf.runs.ratio_frame import COLUMNS as RATIO_COLUMNS

CASE = [
    *("architecture", "phase", "device", "engine", "precision", "layout", "batch", "image_size"),
    *("width", "threads", "world_size"),
]
COLUMNS = [
    *("run", "time", "commit", "machine", "test"),
    *CASE,
    *("metric", "value", "low", "high", "rounds", "unit", "reason"),
]
SAMPLE_COLUMNS = ["run", *CASE, "group", "round", "seconds", "block", "cycle"]


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_run_file_becomes_a_row_for_each_case_and_metric(tmp_path):
    frame = load_runs(save(tmp_path / "0001_abc.json", document(benchmark(), benchmark("resnet18", 0.1))))
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 10
    row = frame[(frame.architecture == "resnet18") & (frame.metric == "latency")].iloc[0]
    assert (row.value, row.low, row.high, row.rounds, row.unit) == pytest.approx((0.1, 0.098, 0.102, 3, "s"))
    assert (row.run, row.commit, row.machine, row.reason) == ("0001_abc", "0123456789", "Example CPU", "")
    assert row.time == pd.Timestamp("2026-05-04T03:02:01.5", tz="UTC")
    assert (row.batch, row.image_size) == (64, 32)


def test_the_types_of_the_columns_do_not_depend_on_the_rows():
    full, empty = frame_of(document(benchmark()), "a"), frame_of(document(), "a")
    assert [str(kind) for kind in full.dtypes] == [str(kind) for kind in empty.dtypes]
    assert str(full.time.dtype) == "datetime64[us, UTC]"
    assert {str(full[name].dtype) for name in ("value", "low", "high")} == {"float64"}
    assert str(full.rounds.dtype) == str(full.batch.dtype) == "Int64"
    assert {str(full[name].dtype) for name in ("architecture", "phase", "run", "metric")} == {"category"}
    assert list(empty.columns) == COLUMNS


def test_a_counter_has_neither_interval_nor_rounds():
    row = frame_of(document(benchmark()), "a").set_index("metric").loc["parameters"]
    assert math.isnan(row.low)
    assert math.isnan(row.high)
    assert row.rounds is pd.NA


def test_a_document_in_memory_needs_no_more_than_benchmarks():
    frame = frame_of({"benchmarks": [benchmark()]}, "now")
    assert frame.time.isna().all()
    assert set(frame.commit) == {""}


def test_a_case_that_was_not_measured_is_one_row_with_its_reason():
    skipped = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    frame = frame_of(document(benchmark(), not_measured=skipped), "a")
    row = frame[frame.device == "cuda"].iloc[0]
    assert (row.metric, row.unit, row.reason, row.architecture) == ("latency", "s", "no CUDA device", "")
    assert math.isnan(row.value)


def test_an_axis_that_an_old_file_does_not_have_takes_its_default():
    old = benchmark()
    del old["extra_info"]["axes"]["layout"]
    assert set(frame_of(document(old), "a").layout) == {"contiguous"}


def test_a_metric_of_a_newer_version_is_kept_with_its_own_unit():
    entry = {"energy": {"value": 1.5, "unit": "J"}, "latency": metric("latency", 1e-3)}
    frame = frame_of(document(benchmark(metrics=entry)), "a").set_index("metric")
    assert (frame.loc["energy", "value"], frame.loc["energy", "unit"]) == (1.5, "J")


def test_a_value_without_a_unit_has_that_of_its_metric():
    frame = frame_of(document(benchmark(metrics={"latency": {"value": 1e-3}})), "a")
    assert list(frame.unit) == ["s"]


def test_a_benchmark_of_another_suite_is_a_row_with_its_test_and_no_axes(tmp_path):
    other = foreign() | {"stats": {"median": 0.1, "rounds": 7, "data": [0.1]}}
    del other["extra_info"]  # as older suites have it
    frame = load_runs(save(tmp_path / "a.json", document(other, benchmark())))
    row = frame[frame.test != ""].iloc[0]
    assert (row.test, row.metric, row.value, row.rounds) == ("test_sort.py::test_sort", "latency", 0.1, 7)
    assert pd.isna(row.architecture)
    assert pd.isna(row.batch)
    assert set(frame[frame.test == ""].architecture) == {"lenet5"}


def test_a_gpu_and_uncommitted_changes_are_named():
    changed = document(benchmark(), environment={"cpu_model": "C", "gpu_model": "G"})
    changed["commit_info"] = {"id": "unversioned", "dirty": True}
    row = frame_of(changed, "a").iloc[0]
    assert (row.machine, row.commit) == ("C + G", "unversioned+dirty")


def test_without_an_environment_the_machine_is_what_pytest_benchmark_calls_it():
    assert frame_of(document(benchmark(), environment={}), "a").machine[0] == "Example CPU (TM)"


@pytest.mark.parametrize("text", ["2026-05-04T05:02:01+02:00", "2026-05-04T03:02:01", "2026-05-04T03:02:01Z"])
def test_every_time_is_told_in_utc(text):
    frame = frame_of(document(benchmark()) | {"datetime": text}, "a")
    assert frame.time[0] == pd.Timestamp("2026-05-04T03:02:01", tz="UTC")


def test_a_tree_is_searched_for_run_files_and_journals(tmp_path):
    save(tmp_path / ".benchmarks" / "Linux" / "0001_a.json", document(benchmark()))
    save(tmp_path / ".benchmarks" / "cnnperf-1.journal.jsonl", journal(document(benchmark())))
    assert set(load_runs(str(tmp_path)).run) == {"0001_a", "cnnperf-1"}


def test_files_of_one_name_in_two_folders_are_two_runs(tmp_path):
    for folder in ("old", "new"):
        save(tmp_path / folder / "0001_base.json", document(benchmark()))
    save(tmp_path / "new" / "0002_next.json", document(benchmark()))
    assert set(load_runs(tmp_path).run) == {"old/0001_base", "new/0001_base", "0002_next"}


def test_a_foreign_json_file_in_a_tree_is_skipped_with_one_warning_that_names_it(tmp_path):
    save(tmp_path / "a.json", document(benchmark()))
    save(tmp_path / "package.json", {"name": "x"})
    with pytest.warns(UserWarning, match=r"package\.json: skipped, not a run file") as seen:
        load_runs(tmp_path)
    assert len(seen) == 1


def test_a_run_of_another_suite_is_in_the_frame_and_not_among_the_runs_to_report(tmp_path):
    other = document(foreign() | {"stats": {"median": 0.1}})
    del other["cnnperf"]
    save(tmp_path / "other.json", other)
    save(tmp_path / "a.json", document(benchmark()))
    assert set(load_runs(tmp_path).run) == {"a", "other"}
    assert [name for name, _ in read_runs(tmp_path)] == ["a"]


def test_a_journal_with_a_cut_last_line_loses_only_that(tmp_path):
    text = journal(document(benchmark("a"), benchmark("b")))
    path = save(tmp_path / "cnnperf-1.journal.jsonl", text[:-40])
    with pytest.warns(UserWarning, match="last line was cut short"):
        assert set(load_runs(path).architecture) == {"a"}


def test_a_journal_holds_cases_that_were_not_measured(tmp_path):
    skipped = {"not_measured": {"axes": benchmark("big")["extra_info"]["axes"], "reason": "out of memory"}}
    text = journal(document(benchmark("a"))) + json.dumps(skipped) + "\n"
    frame = load_runs(save(tmp_path / "x.journal.jsonl", text))
    assert list(frame[frame.reason != ""].architecture) == ["big"]


def test_a_journal_that_was_cut_in_its_first_line_holds_no_run(tmp_path):
    save(tmp_path / "a.json", document(benchmark()))
    save(tmp_path / "x.journal.jsonl", '{"cnnperf_journal": 1, "mach')
    with pytest.warns(UserWarning, match="cut short|skipped"):
        assert set(load_runs(tmp_path).run) == {"a"}


def test_the_raw_rounds_are_numbered_within_their_group(tmp_path):
    path = save(tmp_path / "a.json", document(benchmark(groups=[[1.0, 2.0], [3.0]])))
    samples = load_samples(path)
    assert list(samples.columns) == SAMPLE_COLUMNS
    assert samples[["group", "round", "seconds"]].values.tolist() == [[0, 0, 1.0], [0, 1, 2.0], [1, 0, 3.0]]


def test_the_groups_of_a_case_of_a_block_are_its_cycles(tmp_path):
    case = benchmark(groups=[[1.0, 2.0], [3.0]])
    case["extra_info"]["block"] = "test_x.py::test_forward[cpu]"
    samples = load_samples(save(tmp_path / "a.json", document(case)))
    assert list(samples["block"]) == ["test_x.py::test_forward[cpu]"] * 3
    assert samples[["cycle", "group", "round"]].to_numpy().tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("schema", [1, 2])
def test_a_case_that_was_measured_alone_has_neither_block_nor_cycles(tmp_path, schema):
    case = benchmark(groups=[[1.0, 2.0], [3.0]])
    case["extra_info"]["cnnperf"] = schema
    samples = load_samples(save(tmp_path / "a.json", document(case, schema=schema)))
    assert (set(samples["block"]), samples["cycle"].isna().all()) == ({""}, True)
    assert list(samples["group"]) == [0, 0, 1]


def test_the_types_of_the_samples_do_not_depend_on_the_rows():
    full, empty = samples_of(document(benchmark()), "a"), samples_of(document(), "a")
    assert [str(kind) for kind in full.dtypes] == [str(kind) for kind in empty.dtypes]
    assert (str(full["block"].dtype), str(full["cycle"].dtype)) == ("category", "Int64")


def test_rounds_of_unknown_groups_are_one_group():
    case = benchmark(groups=[[1.0, 2.0]])
    del case["extra_info"]["groups"]
    assert list(samples_of(document(case), "a").group) == [0, 0]


def test_runs_without_raw_rounds_say_how_to_keep_them(tmp_path):
    path = save(tmp_path / "a.json", document(benchmark(groups=[])))
    with pytest.raises(RunFileError, match="--benchmark-save-data"):
        load_samples(path)


def test_samples_of_no_rounds_still_have_columns():
    assert list(samples_of(document(), "a").columns) == SAMPLE_COLUMNS


finite = st.floats(min_value=1e-9, max_value=1e9)


@pytest.mark.slow
@given(
    latency=finite,
    half=st.floats(0, 0.9),
    phase=st.sampled_from(PHASES),
    engine=st.sampled_from(sorted(ENGINES)),
    precision=st.sampled_from(PRECISIONS),
    layout=st.sampled_from(LAYOUTS),
    batch=st.integers(1, 2**40),
    architecture=st.text(min_size=1),
    groups=st.lists(st.lists(finite, min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_what_is_written_is_read_back(latency, half, architecture, groups, **axes):
    case = benchmark(architecture, latency, half, groups=groups, **axes)
    saved = json.loads(json.dumps(document(case)))
    row = frame_of(saved, "a").set_index("metric").loc["latency"]
    assert (row.value, row.low, row.high) == (latency, latency * (1 - half), latency * (1 + half))
    assert {name: row[name] for name in axes} == axes
    assert row.architecture == architecture
    samples = samples_of(saved, "a")
    assert [list(part.seconds) for _, part in samples.groupby("group")] == groups


def test_a_clean_tree_warns_of_nothing(tmp_path):
    save(tmp_path / "a.json", document(benchmark(findings=[finding()])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_runs(tmp_path)


def explained_in(heading):
    """Return the columns that the first table below a heading of docs/frame.md explains, in order."""
    text = (Path(__file__).parents[1] / "docs" / "frame.md").read_text(encoding="utf-8")
    table = text.partition(f"{heading}\n")[2].partition("| --- |")[2].partition("\n\n")[0]
    return [name for line in table.splitlines()[1:] for name in re.findall("`([a-z_]+)`", line.split("|")[1])]


def test_every_column_is_explained():
    assert explained_in("# The frame: what `cnnperf.load_runs` returns") == COLUMNS


def test_every_column_of_ratios_and_samples_is_explained():
    ratios = [name for name in RATIO_COLUMNS if not name.startswith(("numerator_", "denominator_"))]
    sides = ["numerator_architecture", "denominator_architecture"]
    assert explained_in("## Ratios: `cnnperf.load_ratios`") == [*ratios[:5], *sides, *ratios[5:]]
    samples = [name for name in SAMPLE_COLUMNS if name not in CASE]
    assert explained_in("## Raw rounds: `cnnperf.load_samples`") == samples
