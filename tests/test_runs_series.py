"""The history as a person asks for it: planted runs on disk, shifts with their commits, and those that are known."""

import json

import numpy as np
import pytest
from documents import benchmark, document, metric

from cnnperf.cli import main
from cnnperf.errors import RunFileError
from cnnperf.records.case import Case
from cnnperf.runs.acknowledged import Acknowledged, read_acknowledged
from cnnperf.runs.series import Change, Point, Series

RUNS = 24
MACHINE = {"cpu_model": "Example CPU", "cpu_count": 2, "torch": "2.12.0"}


def commit(number):
    return f"{number:040x}"[::-1]


def plant(folder, latencies, *, environment=lambda number: MACHINE, anchor="", metrics=lambda latency: {}, begin=0):
    folder.mkdir(exist_ok=True)
    for number, latency in enumerate(latencies, start=begin):
        values = {"latency": metric("latency", latency), **metrics(latency)}
        found = document(benchmark(metrics=values), environment=environment(number), anchor=anchor)
        found |= {"commit_info": {"id": commit(number), "dirty": False}}
        found["datetime"] = f"2026-05-{number // 24 + 1:02}T{number % 24:02}:00:00+00:00"
        (folder / f"{number:04}.json").write_text(json.dumps(found))


def steady(runs=RUNS, seed=0):
    return 1e-3 * np.exp(np.random.default_rng(seed).normal(0, 0.005, runs))


def slower(at=16, factor=1.1):
    return steady() * np.where(np.arange(RUNS) >= at, factor, 1.0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".benchmarks"


def test_a_slowdown_is_told_with_the_commits_around_it(here, capsys):
    plant(here, slower())
    assert main(["history"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("1 changes for the worse, 0 acknowledged")
    assert f"(worse) after {commit(15)[:10]}, at the latest in {commit(16)[:10]}" in " ".join(out.split())


def test_steady_runs_are_fine(here, capsys):
    plant(here, steady())
    assert main(["history"]) == 0
    assert capsys.readouterr().out.startswith("0 changes for the worse")


def test_becoming_faster_is_told_and_does_not_fail(here, capsys):
    plant(here, slower(factor=0.9))
    assert main(["history"]) == 0
    assert "(changed)" in capsys.readouterr().out


def test_another_machine_begins_another_series_and_is_no_regression(here, capsys):
    plant(
        here, slower(factor=2.0), environment=lambda n: MACHINE | {"cpu_model": "Slow CPU" if n >= 16 else "Fast CPU"}
    )
    assert main(["history"]) == 0
    out = capsys.readouterr().out
    assert "cpu_model Fast CPU" in out
    assert "cpu_model Slow CPU" in out


def test_another_pytorch_is_told_beside_the_shift_that_came_with_it(here, capsys):
    plant(here, slower(), environment=lambda n: MACHINE | {"torch": "2.13.0" if n >= 16 else "2.12.0"})
    assert main(["history"]) == 1
    assert "with it torch 2.12.0 -> 2.13.0" in " ".join(capsys.readouterr().out.split())


def test_ratios_to_an_anchor_go_on_from_machine_to_machine(here, capsys):
    def ratio(latency):
        return {"anchor_ratio": metric("anchor_ratio", 1e3 * latency)}

    machines = [MACHINE | {"cpu_model": name} for name in ("A", "B", "C")]
    plant(here, slower(), environment=lambda n: machines[n % 3], anchor="v1.0", metrics=ratio)
    assert main(["history", "--metric", "anchor_ratio"]) == 1
    assert "relative to v1.0" in capsys.readouterr().out


def test_a_counter_that_changed_is_found_at_once(here, capsys):
    plant(here, steady(3), metrics=lambda _: {"flop": metric("flop", 100)})
    plant(here, steady(1), metrics=lambda _: {"flop": metric("flop", 101)}, begin=3)
    assert main(["history", "--metric", "flop"]) == 1
    assert "flop +1.0% (worse)" in " ".join(capsys.readouterr().out.split())


def test_a_known_shift_is_told_with_its_reason_and_does_not_fail(here, capsys):
    plant(here, slower())
    main(["history"])
    line = capsys.readouterr().out.splitlines()[-1].strip()
    (here.parent / "acknowledged-shifts.txt").write_text(
        f"# known\n\n{line.replace('why', 'wider layers | on purpose')}\n"
    )
    assert main(["history"]) == 0
    assert "known: wider layers | on purpose" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("abcdef0123 | latency | *", "line 1: a line is COMMIT | METRIC | CASE | REASON"),
        ("abcdef0123 | latency |  | why", "line 1: a line is COMMIT"),
        ("abc | latency | * | why", "7 characters of a commit"),
    ],
)
def test_a_line_of_another_form_is_refused_with_its_number(tmp_path, line, message):
    path = tmp_path / "known.txt"
    path.write_text(line + "\n")
    with pytest.raises(RunFileError, match=message.replace("|", r"\|")):
        read_acknowledged(path)


def test_too_few_runs_are_said_and_are_not_fine(here, capsys):
    plant(here, steady(4))
    assert main(["history"]) == 3
    assert "1 of them have fewer than 8 runs" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet*"], "no run has a case 'resnet*'; they have lenet5"),
        (["--metric", "flop"], "no run has the metric 'flop' for *; they have latency"),
        (["--metric", "speed"], "there is no metric 'speed'"),
        (["--metric", "ratio"], "they have latency; only cases that were measured side by side have ratios"),
        (["--least", "0"], "--least takes a percentage"),
        (["--runs", "nowhere.json"], "nowhere.json: no such file or directory"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(here, capsys, arguments, message):
    plant(here, steady(1))
    assert main(["history", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_runs_that_name_no_machine_and_no_time_are_one_series(here, capsys):
    plant(here, slower(), environment=lambda _: {})
    for path in here.glob("*.json"):
        path.write_text(path.read_text().replace('"datetime"', '"undated"'))
    assert main(["history"]) == 1
    assert "machine Example CPU (TM)" in capsys.readouterr().out


def test_a_run_without_a_value_is_left_out_and_the_others_are_searched(here, capsys):
    latencies = slower()
    latencies[3] = float("nan")
    plant(here, latencies)
    assert main(["history"]) == 1
    assert f"  {RUNS - 1}  " in capsys.readouterr().out


def test_a_shift_that_was_mended_is_told_and_no_longer_fails(here, capsys):
    latencies = steady() * np.where((np.arange(RUNS) >= 8) & (np.arange(RUNS) < 16), 1.1, 1.0)
    plant(here, latencies)
    assert main(["history"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("0 changes for the worse, 0 acknowledged, 1 mended, 1 others")
    assert "(worse, mended since)" in out


def test_a_counter_that_came_back_no_longer_fails(here, capsys):
    for number, flop in enumerate((100, 120, 100)):
        plant(here, steady(1), metrics=lambda _, flop=flop: {"flop": metric("flop", flop)}, begin=number)
    assert main(["history", "--metric", "flop"]) == 0
    assert "1 mended" in capsys.readouterr().out


def test_any_commit_in_which_it_may_have_begun_acknowledges_a_shift():
    points = tuple(Point(f"{number}", commit(number)[:10], 1.0, {}) for number in range(4))
    series = Series(Case("lenet5"), "latency", (), points)
    change = Change(series, points[0], points[3], 1.1, 1.05, 1.15, True, {}, tuple(one.commit for one in points[1:]))
    covered = [Acknowledged(one.commit, "latency", "lenet5", "why").covers(change) for one in points]
    assert covered == [False, True, True, True]
    assert not Acknowledged(points[1].commit, "flop", "lenet5", "why").covers(change)
    assert not Acknowledged(points[1].commit, "latency", "resnet18", "why").covers(change)


def test_a_file_of_known_shifts_that_is_named_has_to_be_there(here, capsys):
    plant(here, steady())
    assert main(["history", "--acknowledged", "typo.txt"]) == 2
    assert "typo.txt: cannot be read" in capsys.readouterr().err


def test_a_value_of_zero_is_left_out_and_that_is_said(here, capsys):
    latencies = slower()
    latencies[3] = 0.0
    plant(here, latencies)
    assert main(["history"]) == 1
    assert "1 values that are no numbers above 0 are left out" in " ".join(capsys.readouterr().out.split())


def test_runs_without_a_case_have_no_history_and_that_is_said(here, capsys):
    here.mkdir()
    (here / "0001.json").write_text(json.dumps(document()))
    assert main(["history"]) == 2
    assert "the runs have no cases, and therefore no history" in capsys.readouterr().err
