import copy
import json
import re
import warnings

import pytest
from documents import benchmark, document, finding, foreign, journal
from hypothesis import given
from hypothesis import strategies as st
from needs import needs

from cnnperf.cli import main
from cnnperf.errors import DamagedRunWarning, RunFileError
from cnnperf.report.terminal import render
from cnnperf.runs import load_runs, load_samples, parse_document, read_runs

FULL = document(
    benchmark(findings=[finding()]),
    not_measured=[{"axes": {"device": "cuda"}, "reason": "no CUDA device"}],
    findings=[finding("loaded machine")],
)
WHOLE = json.dumps(FULL)


def replaced(path, value):
    """Return the full document with the value at the path replaced, or the key dropped where it is `...`."""
    changed = copy.deepcopy(FULL)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


EXTRA = ("benchmarks", 0, "extra_info")
LATENCY = (*EXTRA, "metrics", "latency")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("benchmarks",), ..., r"\$: 'benchmarks' is missing"),
        (("benchmarks",), 7, "benchmarks: a list is needed here, found 7"),
        (("benchmarks", 0), 7, r"benchmarks\[0\]: an object is needed here, found 7"),
        (EXTRA, 7, r"benchmarks\[0\]\.extra_info: an object is needed"),
        ((*EXTRA, "cnnperf"), "one", r"extra_info\.cnnperf: a whole number"),
        ((*EXTRA, "cnnperf"), 3, "schema 3, this version of cnnperf reads up to 2; upgrade cnnperf"),
        ((*EXTRA, "axes"), ..., "'axes' is missing"),
        ((*EXTRA, "axes"), 7, r"extra_info\.axes: an object is needed here, found 7"),
        ((*EXTRA, "axes", "batch"), "64", r"axes\.batch: a whole number of at least 0 is needed here, found '64'"),
        ((*EXTRA, "axes", "batch"), True, r"axes\.batch: a whole number"),
        ((*EXTRA, "axes", "phase"), 1, r"axes\.phase: a text is needed here, found 1"),
        ((*EXTRA, "axes", "dropout"), 0.1, "unknown axis 'dropout'; .* upgrade cnnperf"),
        ((*EXTRA, "metrics"), ..., "'metrics' is missing"),
        (LATENCY, 1e-3, r"metrics\.latency: an object is needed here, found 0.001"),
        ((*LATENCY, "value"), ..., "'value' is missing"),
        ((*LATENCY, "value"), "fast", r"latency\.value: a number is needed here, found 'fast'"),
        ((*LATENCY, "low"), [], r"latency\.low: a number"),
        ((*LATENCY, "rounds"), 2.5, r"latency\.rounds: a whole number"),
        ((*LATENCY, "unit"), 1, r"latency\.unit: a text"),
        ((*EXTRA, "findings"), {}, r"findings: a list is needed"),
        ((*EXTRA, "findings", 0, "kind"), ..., "'kind' is missing"),
        (("benchmarks", 0, "stats"), 7, r"stats: an object"),
        (("cnnperf",), 7, "cnnperf: an object is needed here, found 7"),
        (("cnnperf", "schema"), 9, "schema 9, this version of cnnperf reads up to 2"),
        (("cnnperf", "environment", "threads"), [1], r"cnnperf\.environment\.threads: a plain value"),
        (("cnnperf", "ceilings"), {"cpu": 7}, r"cnnperf\.ceilings\.cpu: an object"),
        (("cnnperf", "ceilings"), {"cpu": {"copy_bandwidth": "x"}}, "copy_bandwidth: a number"),
        (("cnnperf", "not_measured"), [{"axes": {}}], "'reason' is missing"),
        (("cnnperf", "wall_seconds"), "long", r"cnnperf\.wall_seconds: a number"),
        (("cnnperf", "smallest_difference"), -5, r"smallest_difference: a number above 0 is needed here, found -5"),
        (("cnnperf", "smallest_difference"), 3, r"smallest_difference: a number below 1 is needed here, found 3"),
        (("datetime",), "yesterday", "datetime: a time in ISO 8601 is needed here, found 'yesterday'"),
        (("datetime",), 7, "datetime: a time in ISO 8601 is needed here, found 7"),
        ((*EXTRA, "axes", "batch"), 2**63, "a whole number"),
        (("machine_info",), 7, "machine_info: an object"),
        (("commit_info",), [], "commit_info: an object"),
    ],
)
def test_a_damaged_file_is_named_with_the_place_and_what_is_wrong_there(tmp_path, path, value, message):
    file = tmp_path / "0001_x.json"
    file.write_text(json.dumps(replaced(path, value)))
    with pytest.raises(RunFileError, match=message) as caught:
        load_runs(tmp_path)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*EXTRA, "groups"), [1, 1], "the groups have 2 rounds, the data 3"),
        (("benchmarks", 0, "stats", "data"), [1, "x", 2], r"data\[1\]: a number is needed here, found 'x'"),
        (("benchmarks", 0, "stats", "data"), 7, r"data: a list is needed here, found 7"),
    ],
)
def test_damaged_rounds_are_named_when_they_are_asked_for(tmp_path, path, value, message):
    file = tmp_path / "0001_x.json"
    file.write_text(json.dumps(replaced(path, value)))
    load_runs(tmp_path)
    with pytest.raises(RunFileError, match=message) as caught:
        load_samples(tmp_path)
    assert str(caught.value).startswith(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"latency: 3", "not valid JSON, or cut short"),
        (WHOLE[: len(WHOLE) // 2].encode(), "not valid JSON, or cut short"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        (b"[" * 100_000, "not a run file"),
        (b'{"machine_info": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "benchmarks": []}', "not a run file"),
    ],
)
def test_a_file_that_is_not_json_is_named(tmp_path, content, message):
    file = tmp_path / "0001_x.json"
    file.write_bytes(content)
    with pytest.raises(RunFileError, match=message) as caught:
        load_runs(file)
    assert str(file) in str(caught.value)


def test_a_missing_path_is_told(tmp_path):
    with pytest.raises(RunFileError, match="nowhere: no such file or directory"):
        load_runs(tmp_path / "nowhere")


def test_a_tree_without_runs_says_how_to_make_one(tmp_path):
    with pytest.raises(RunFileError, match=r"no runs in .*; run `pytest benchmarks --benchmark-autosave` first"):
        load_runs(tmp_path)


def test_a_json_file_of_another_kind_is_refused_when_it_is_asked_for(tmp_path):
    file = tmp_path / "package.json"
    file.write_text("{}")
    with pytest.raises(RunFileError, match=r"package\.json: not a run file"):
        load_runs(file)


def test_a_run_of_another_suite_alone_is_none_to_report(tmp_path):
    other = document(foreign())
    del other["cnnperf"]
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(RunFileError, match="no runs in"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[0], "{", lines[1]], "line 2: not valid JSON"),
        (lambda lines: [lines[1]], "a journal begins with an object"),
        (lambda lines: ["[]", lines[1]], "a journal begins with an object"),
        (lambda lines: [lines[0].replace('"cnnperf_journal": 1', '"cnnperf_journal": 2')], "version 2.*upgrade"),
        (lambda lines: [lines[0], "7", lines[1]], "line 2: an object is needed"),
        (lambda lines: ['{"cnnperf_journal": 1, "cnnperf": 7}', lines[1]], "line 1: cnnperf: an object"),
        (lambda lines: ['{"cnnperf_journal": 1, "cnnperf": {"not_measured": 7}}'], "not_measured: a list"),
    ],
)
def test_a_damaged_journal_is_named(tmp_path, change, message):
    file = tmp_path / "x.journal.jsonl"
    file.write_text("\n".join(change(journal(FULL).splitlines())) + "\n")
    with pytest.raises(RunFileError, match=message) as caught:
        load_runs(file)
    assert str(file) in str(caught.value)


def test_a_wrong_value_is_not_repeated_at_length():
    with pytest.raises(RunFileError) as caught:
        parse_document(replaced(LATENCY, "x" * 10_000))
    assert len(str(caught.value)) < 200


def places(value, path=()):
    """Yield the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


PLACES = [path for path in places(FULL) if path]
json_values = st.sampled_from([..., None, True, -1, 7, 2.5, float("nan"), float("inf"), "x", [], [7], {}, {"a": 7}])


@given(st.sampled_from(PLACES), json_values)
def test_whatever_is_wrong_in_a_document_it_is_read_or_refused_in_words(path, value):
    changed = replaced(path, value)
    try:
        parse_document(changed)
    except RunFileError:
        return
    assert all(len(line) <= 100 for line in render(changed))


def test_a_damaged_file_is_left_out_of_a_folder_with_a_warning_that_names_it(tmp_path, capsys):
    for number in (1, 3):
        (tmp_path / f"000{number}_x.json").write_text(WHOLE)
    damaged = tmp_path / "0002_x.json"
    damaged.write_text(WHOLE[: len(WHOLE) // 2])
    with pytest.warns(DamagedRunWarning, match=f"left out: {re.escape(str(damaged))}: not valid JSON"):
        assert [name for name, _ in read_runs(tmp_path)] == ["0001_x", "0003_x"]
    with pytest.warns(DamagedRunWarning):
        assert set(load_runs(tmp_path).run) == {"0001_x", "0003_x"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamagedRunWarning)
        with pytest.raises(DamagedRunWarning):
            load_runs(tmp_path)


@pytest.mark.filterwarnings("default::cnnperf.errors.DamagedRunWarning")
def test_a_command_leaves_it_out_too_or_refuses_the_folder_with_strict(tmp_path, capsys):
    (tmp_path / "0001_x.json").write_text(WHOLE)
    (tmp_path / "0002_x.json").write_text("{")
    assert main(["list", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "0001_x" in shown.out
    assert "0002_x.json" in shown.err
    assert main(["list", "--runs", str(tmp_path), "--strict"]) == 2
    assert "0002_x.json: not valid JSON" in capsys.readouterr().err


def test_a_cached_folder_warns_of_a_damaged_file_each_time(tmp_path):
    needs("pyarrow")
    for number in range(60):
        (tmp_path / f"{number:04}_x.json").write_text(WHOLE)
    (tmp_path / "0099_x.json").write_text("{")
    for _ in range(2):
        with pytest.warns(DamagedRunWarning, match="0099_x"):
            assert len(set(load_runs(tmp_path).run)) == 60
