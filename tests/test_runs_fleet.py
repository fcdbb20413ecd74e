"""A fleet's dataset: each run once, whole or not at all, and the same answers as from local files."""

from needs import needs

needs("fsspec", "pyarrow")

import ast
import json
import multiprocessing
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import writers
from documents import benchmark, document, foreign, journal, metric
from fleets import MADE, append_all, named
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import cnnperf
from cnnperf.cli import main
from cnnperf.errors import OptionError, RunFileError
from cnnperf.runs import frame_of, load_runs, load_samples, read_runs
from cnnperf.runs.choose import choose_runs
from cnnperf.runs.fleet import append, scan
from cnnperf.runs.fleet.dataset import Dataset
from cnnperf.testing import MadeHistory

LACKING = {"axes": {"architecture": "resnet18", "device": "cuda"}, "reason": "no CUDA device"}
FUSION = {"name": "test_se_fusion", "extra_info": {"cnnperf_fusion": {}}, "stats": {}}
DOCUMENTS = {
    "plain": document(benchmark(), benchmark("resnet18", 0.1, batch=4, phase="train")),
    "not measured": document(benchmark(), not_measured=[LACKING]),
    "with another suite": document(benchmark(), foreign() | {"stats": {"median": 0.1, "rounds": 3}}),
    "only another suite": {"benchmarks": [foreign() | {"stats": {"median": 0.1}}], "machine_info": {}},
    "without cases": document(),
    "without a time": {key: value for key, value in document(benchmark()).items() if key != "datetime"},
    "of a newer metric": document(benchmark(metrics={"wattage": {"value": 65.0, "unit": "W"}})),
    "not finite": document(benchmark(metrics={"latency": metric("latency", float("nan"))})),
    "not in ASCII": document(benchmark("réseau"), suite="µ"),
}


def same(one, other):
    pd.testing.assert_frame_equal(one, other, check_categorical=False)
    assert [str(kind) for kind in one.dtypes] == [str(kind) for kind in other.dtypes]


def renamed(frame):
    """Return a frame of a dataset with the names that the runs have in a folder."""
    return frame.assign(run=frame["run"].cat.rename_categories(lambda name: name.rpartition("/")[2]))


def files_of(place):
    return sorted(path for path in Path(place).rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Save runs of two machines in a folder and in a dataset."""
    folder, place = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("fleet") / "runs"
    MadeHistory(runs=24, cases=4, rounds=3, shift=0.3, machines=2, days=5.0).write(folder)
    late = DOCUMENTS["not measured"] | {"datetime": "2026-08-01T00:00:00+00:00"}
    (folder / "0099_late.json").write_text(json.dumps(late))
    assert main(["export", "--runs", str(folder), "--parquet", str(place)]) == 0
    return folder, place


@pytest.mark.parametrize("what", DOCUMENTS)
def test_a_document_comes_back_as_it_was_and_has_the_rows_of_the_frame(tmp_path, what):
    append_all(tmp_path, [("0001_a", DOCUMENTS[what])])
    ((name, found),) = Dataset.at(tmp_path).documents()
    assert json.dumps(found) == json.dumps(DOCUMENTS[what])
    same(load_runs(tmp_path), frame_of(DOCUMENTS[what], name))


def test_a_run_twice_is_once_however_its_file_is_spaced_and_named(tmp_path):
    whole = DOCUMENTS["plain"]
    shuffled = json.loads(json.dumps(dict(reversed(whole.items())), indent=3))
    place = tmp_path / "runs"
    assert append_all(place, [("0001_a", whole)]) == [True]
    before = [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files_of(place)]
    assert append_all(place, [("0001_a", whole), ("0007_b", shuffled)]) == [False, False]
    assert [(path, path.read_bytes(), path.stat().st_mtime_ns) for path in files_of(place)] == before


def test_runs_of_one_name_on_two_machines_are_two(tmp_path):
    other = document(benchmark(), environment={"cpu_model": "Other CPU"})
    assert append_all(tmp_path, [("0001_a", DOCUMENTS["plain"]), ("0001_a", other)]) == [True, True]
    assert load_runs(tmp_path)["run"].nunique() == 2


def test_no_reader_sees_a_run_before_it_is_whole(tmp_path, monkeypatch):
    append_all(tmp_path, named([0]))
    seen = []
    monkeypatch.setattr(append, "_flush", lambda location, path: seen.append(load_runs(tmp_path)["run"].nunique()))
    append_all(tmp_path, named([1]))
    assert seen == [1]
    assert load_runs(tmp_path)["run"].nunique() == 2


@pytest.mark.slow
def test_a_writer_that_dies_leaves_nothing_that_a_reader_sees(tmp_path):
    append_all(tmp_path, named([1]))
    arguments = (str(tmp_path), MADE.document(0))
    process = multiprocessing.get_context("spawn").Process(target=writers.die_before_renaming, args=arguments)
    process.start()
    process.join(timeout=300)
    assert process.exitcode == 9
    assert [path.suffix for path in files_of(tmp_path)] == [".unfinished", ".parquet"]
    assert len(read_runs(tmp_path)) == len(pd.read_parquet(tmp_path)["run"].unique()) == 1
    assert append_all(tmp_path, named([0])) == [True]
    assert len(read_runs(tmp_path)) == 2


def test_a_run_that_cannot_be_written_leaves_no_file(tmp_path, monkeypatch):
    def full(location, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(append, "_flush", full)
    with pytest.raises(cnnperf.CnnperfError, match="cannot be written to: No space left on device"):
        append_all(tmp_path, named([0]))
    assert files_of(tmp_path) == []


@pytest.mark.slow
def test_eight_writers_at_once_lose_nothing_and_duplicate_nothing(tmp_path):
    folder, place = tmp_path / "saved", tmp_path / "runs"
    MADE.write(folder)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(8) as pool:
        barrier = manager.Barrier(8, timeout=300)
        tasks = [(str(place), str(folder), first, barrier) for first in range(8)]
        appended = pool.starmap_async(writers.append_overlapping, tasks, chunksize=1).get(timeout=300)
    assert sum(appended) >= MADE.runs
    assert len(files_of(place)) == MADE.runs
    same(renamed(load_runs(place)), load_runs(folder))


def test_the_frame_is_that_of_the_folder(made):
    folder, place = made
    same(renamed(load_runs(place)), load_runs(folder))


VALUES = {
    "machine": ["Made CPU 1", "Made CPU 2", "Example CPU", "No CPU"],
    "commit": ["0000000300", "0000000800", "none"],
    "architecture": ["network0", "network1", "lenet5", "resnet18"],
    "phase": ["forward", "train"],
    "device": ["cpu", "cuda"],
    "batch": [1, 8, 64],
    "metric": ["latency", "throughput", "nothing"],
}
DATES = st.dates(date(2025, 12, 1), date(2026, 9, 1))
TIMES = st.none() | DATES | DATES.map("{}T12:30+02:00".format)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(some) | st.lists(st.sampled_from(some)) for name, some in VALUES.items()}
    ),
    since=TIMES,
    until=TIMES,
)
def test_a_selection_is_that_of_the_whole_frame(made, where, since, until):
    folder, place = made
    expected = load_runs(folder)
    for name, wanted in where.items():
        expected = expected[expected[name].isin([wanted] if isinstance(wanted, str | int) else wanted)]
    if since is not None:
        expected = expected[expected["time"] >= pd.to_datetime(since, utc=True)]
    if until is not None:
        expected = expected[expected["time"] < pd.to_datetime(until, utc=True)]
    chosen = {"where": where, "since": since, "until": until}
    same(load_runs(folder, **chosen), expected.reset_index(drop=True))
    same(renamed(load_runs(place, **chosen)), expected.reset_index(drop=True))


def test_a_machine_a_time_and_a_run_are_found_without_opening_other_files(made, monkeypatch):
    opened = []
    real = scan.read_table
    monkeypatch.setattr(
        "cnnperf.runs.fleet.dataset.read_table",
        lambda location, files, *rest: opened.append(len(files)) or real(location, files, *rest),
    )
    _, place = made
    name = load_runs(place)["run"].iloc[0]
    load_runs(place, where={"machine": "Made CPU 1"})
    load_runs(place, since="2026-02-01", until=datetime(2026, 2, 28, tzinfo=UTC))
    load_runs(place, where={"run": name})
    assert opened == [25, 12, 5, 1]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"where": {"value": 1}}, "cannot be selected by 'value'; they can by run, commit, machine"),
        ({"where": {"batch": "8"}}, "batch takes whole numbers, not '8'"),
        ({"where": {"phase": ["train", 3]}}, "phase takes texts, not 3"),
        ({"since": "yesterday week"}, "since: a time such as 2026-01-31 or .* is needed, not 'yesterday week'"),
        ({"until": 5}, "until: a time such as"),
        ({"since": ""}, "since: a time such as"),
        ({"until": "NaT"}, "until: a time such as"),
        ({"where": {"machine": None}}, "machine takes a value or several, not None"),
        ({"where": {"batch": 2**70}}, "which no run has"),
        ({"where": {"commit": "\ud800"}}, "which no run has"),
    ],
)
def test_what_cannot_be_selected_is_told(made, chosen, message):
    for place in made:
        with pytest.raises(OptionError, match=message):
            load_runs(place, **chosen)


def test_a_year_of_few_digits_is_earlier_than_one_of_many(made):
    for place in made:
        assert len(load_runs(place, since="0900-01-01")) == len(load_runs(place, since="2000-01-01")) > 0


def test_categories_are_those_of_the_folder(made):
    folder, place = made
    for where in ({}, {"metric": "latency"}, {"architecture": "network1"}):
        one, other = load_runs(place, where=where), load_runs(folder, where=where)
        for name in ("metric", "architecture", "machine", "phase", "unit"):
            assert list(one[name].cat.categories) == list(other[name].cat.categories), name


def test_of_runs_of_one_time_the_last_by_name_is_the_latest(tmp_path):
    documents = [MADE.document(number) | {"datetime": "2026-01-01T00:00:00+00:00"} for number in range(8)]
    append_all(tmp_path / "runs", [(f"{number + 1:04}_made", one) for number, one in enumerate(documents)])
    ((name, _),) = choose_runs("latest", tmp_path / "runs")
    assert name.endswith("/0008_made")
    assert [name[-9:] for name, _ in read_runs(tmp_path / "runs")] == [f"{number:04}_made" for number in range(1, 9)]


def test_what_a_history_lacks_is_told_though_the_latest_run_has_no_cases(tmp_path):
    empty = DOCUMENTS["without cases"] | {"datetime": "2027-01-01T00:00:00+00:00"}
    append_all(tmp_path / "runs", [*named(range(3)), ("0009_empty", empty)])
    with pytest.raises(RunFileError, match="no run has a case 'nope'; they have network0"):
        cnnperf.history(tmp_path / "runs", case="nope")


def test_a_damaged_document_is_told_with_what_to_do(tmp_path):
    append_all(tmp_path / "runs", named([0]))
    (path,) = files_of(tmp_path / "runs")
    table = parquet.read_table(path, partitioning=None)
    for text in (None, "{", "[]"):
        column = pa.array([text, *[None] * (len(table) - 1)])
        parquet.write_table(table.set_column(table.schema.get_field_index("document"), "document", column), path)
        with pytest.raises(RunFileError, match="0001_made: its document is damaged; move its file away"):
            read_runs(tmp_path / "runs")


@pytest.mark.parametrize("pattern", ["*", "network1", "network[01]", "net*0", "network0 train*", "* cpu eager batch 8"])
def test_the_history_is_that_of_the_folder(made, pattern):
    folder, place = made
    expected = cnnperf.history(folder, "latency", pattern)
    same(renamed(cnnperf.history(place, "latency", pattern)), expected)
    assert expected["shift"].notna().any()


def test_the_history_takes_the_median_of_the_processes_and_reads_no_document(tmp_path, monkeypatch):
    found = benchmark()
    found["extra_info"]["processes"] = [1e-3, 5e-3, 3e-3]
    append_all(tmp_path, [("0001_a", document(found))])
    monkeypatch.setattr("cnnperf.runs.fleet.dataset.read_documents", None)
    assert cnnperf.history(tmp_path)["value"].tolist() == [3e-3]
    assert cnnperf.history(tmp_path, "throughput")["value"].tolist() == [64 / 1e-3]


def test_the_history_of_one_machine_and_time_is_that_of_the_folder(made):
    folder, place = made
    wanted = {"machine": "Made CPU 2", "since": "2026-02-01", "until": "2026-05-01"}
    expected = cnnperf.history(folder, case="network0", **wanted)
    same(renamed(cnnperf.history(place, case="network0", **wanted)), expected)
    assert set(expected["run"]) == {f"{number:04}_made" for number in (8, 10, 12, 14, 16, 18, 20, 22, 24)}


@pytest.mark.parametrize("wanted", [{"machine": "No CPU"}, {"since": "2031-01-01"}])
def test_a_machine_or_time_without_a_run_is_told_with_a_machine_that_there_is(made, wanted):
    for place in made:
        with pytest.raises(cnnperf.CnnperfError, match="machines are named like 'Example CPU'"):
            cnnperf.history(place, case="lenet5", **wanted)


def test_what_no_run_has_is_told_with_what_there_is(made):
    for place in made:
        with pytest.raises(cnnperf.CnnperfError, match=r"no run has the metric 'kernels' for lenet5; they have"):
            cnnperf.history(place, "kernels", "lenet5")


@pytest.mark.parametrize("text", ["latest", "latest~3", "4", "0005_made", "00000007", "0000000900"])
def test_a_run_is_chosen_as_from_the_folder(made, text):
    folder, place = made
    expected, found = (choose_runs(text, storage) for storage in (folder, place))
    assert [name.rpartition("/")[2] for name, _ in found] == [name for name, _ in expected]
    assert [run for _, run in found] == [run for _, run in expected]


def test_runs_of_other_suites_alone_are_none_to_choose_from(tmp_path):
    append_all(tmp_path, [("0001_a", DOCUMENTS["only another suite"])])
    for read in (read_runs, lambda place: choose_runs("latest", place), cnnperf.history):
        with pytest.raises(cnnperf.CnnperfError, match=r"no runs in .*; run `pytest benchmarks"):
            read(tmp_path)


def test_only_the_documents_of_the_chosen_runs_are_read(made, monkeypatch):
    read = []
    real = scan.read_documents
    monkeypatch.setattr(
        "cnnperf.runs.fleet.dataset.read_documents",
        lambda location, files: read.append(len(files)) or real(location, files),
    )
    choose_runs("latest", made[1])
    assert read == [1]


def test_the_latest_run_is_looked_for_in_the_latest_month(made, monkeypatch):
    opened = []
    real = scan.read_table
    monkeypatch.setattr(
        "cnnperf.runs.fleet.dataset.read_table",
        lambda location, files, *rest: opened.append(len(files)) or real(location, files, *rest),
    )
    choose_runs("latest", made[1])
    choose_runs("latest~2", made[1])
    assert opened == [1, 1, 6]


def test_two_commits_of_a_dataset_are_compared_as_those_of_the_folder(made):
    folder, place = made
    same(*(cnnperf.compare_runs("3", "15", storage) for storage in (place, folder)))
    same(cnnperf.compare_runs("3", "15", place.as_uri()), cnnperf.compare_runs("3", "15", folder))


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "latest"], ["history", "network0"], ["compare", "3", "15"], ["export", "latest"]]
)
def test_the_commands_say_the_same_of_a_dataset(made, capsys, arguments):
    said = []
    for storage in made:
        status = main([*arguments, "--runs", str(storage)])
        said.append((status, re.sub("[0-9a-f]{16}/", "", capsys.readouterr().out).split()))
    assert said[0] == said[1]
    assert said[0][1]


def test_the_report_of_a_dataset_has_the_history(made, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", "24", "--runs", made[1].as_uri(), "--html", str(page)]) == 0
    assert "without the history" not in capsys.readouterr().out
    assert "network1" in page.read_text()


def test_raw_rounds_are_kept(made):
    folder, place = made
    same(renamed(load_samples(place)), load_samples(folder))


def test_an_interrupted_run_is_appended_as_far_as_it_got(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "x.journal.jsonl").write_text(journal(DOCUMENTS["plain"]))
    unasked = ["export", "--runs", str(folder), "--parquet", str(tmp_path / "runs")]
    assert main(unasked) == 0  # its run may go on, so that it has to be named
    assert not (tmp_path / "runs").exists()
    assert main(["export", str(folder / "x.journal.jsonl"), "--parquet", str(tmp_path / "runs")]) == 0
    same(renamed(load_runs(tmp_path / "runs")), load_runs(folder))


def test_a_dataset_is_appended_to_another(made, tmp_path, capsys):
    _, place = made
    command = ["export", str(place), "--parquet", str(tmp_path / "copy")]
    assert main(command) == main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/copy: 25 runs appended, 0 were there already",
        f"{tmp_path}/copy: 0 runs appended, 25 were there already",
    ]
    same(load_runs(tmp_path / "copy"), load_runs(place))


def test_one_run_is_appended_where_one_is_named(made, tmp_path, capsys):
    folder, _ = made
    assert main(["export", "latest~1", "--runs", str(folder), "--parquet", str(tmp_path / "runs")]) == 0
    assert set(load_runs(tmp_path / "runs")["commit"]) == {"0000001800"}


def test_other_schemes_go_through_fsspec(made):
    folder, _ = made
    assert main(["export", "--runs", str(folder), "--parquet", "memory://fleet/runs"]) == 0
    same(renamed(load_runs("memory://fleet/runs")), load_runs(folder))


def example_of(program):
    """Return what the last statement of an example in the documentation gives."""
    text = Path(__file__).parents[1].joinpath("docs", "fleet.md").read_text(encoding="utf-8")
    *before, last = ast.parse(text.partition(f"<!-- example:{program} -->\n```python\n")[2].partition("```")[0]).body
    names = {}
    exec(compile(ast.Module(before, []), "fleet.md", "exec"), names)
    return eval(compile(ast.Expression(last.value), "fleet.md", "eval"), names)


@pytest.mark.parametrize("program", ["duckdb", "pandas"])
def test_other_programs_read_it_with_the_lines_of_the_documentation(tmp_path, monkeypatch, program):
    folder = tmp_path / "saved"
    MadeHistory(runs=9, cases=3, rounds=3, days=7.0).write(folder)
    for path in folder.iterdir():
        text = path.read_text().replace("Made CPU", "AMD EPYC").replace("network0", "resnet18")
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--runs", "saved", "--parquet", "runs"]) == 0
    expected = load_runs("runs", where={"metric": "throughput"})
    assert sorted(example_of(program)["value"]) == sorted(expected["value"])


def test_the_month_and_the_machine_of_a_partition_are_columns_for_others(made):
    found = pd.read_parquet(made[1], columns=["month", "machine_id", "machine", "time"])
    assert (found["month"].astype(str) == found["time"].dt.strftime("%Y-%m")).all()
    assert found.groupby("machine")["machine_id"].nunique().eq(1).all()
