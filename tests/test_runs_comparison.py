"""Saved runs compared: the process is the datum, unlike machines are refused, and what vanished is not fine."""

import math

import numpy as np
import pytest
from documents import benchmark, document, metric
from scipy import stats

from cnnperf.errors import RunFileError
from cnnperf.records.tolerance import Tolerance
from cnnperf.runs import parse_document
from cnnperf.runs.baseline import Baseline
from cnnperf.runs.comparison import compare_sides, unpaired
from cnnperf.stats.sequential import Rule

TOLERANCE = Tolerance()


def runs_of(*latencies, commit="a" * 40, **facts):
    runs = []
    for number, latency in enumerate(latencies):
        found = document(benchmark(latency=latency), **facts) | {"commit_info": {"id": commit, "dirty": False}}
        runs.append((f"000{number}", parse_document(found)))
    return runs


def only(comparison):
    (verdict,) = comparison.cases
    return verdict


STEADY = (1e-3, 1.001e-3, 0.999e-3, 1.0005e-3)


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, "slower"), (0.9, "faster"), (1.0, "same"), (1.01, "same")])
def test_with_several_processes_a_side_there_is_a_verdict(factor, verdict):
    candidate = runs_of(*(factor * one for one in STEADY), commit="b" * 40)
    assert only(compare_sides(runs_of(*STEADY), candidate, TOLERANCE)).verdict == verdict


def test_one_process_a_side_cannot_tell_code_from_process():
    comparison = compare_sides(runs_of(1e-3), runs_of(2e-3, commit="b" * 40), TOLERANCE)
    assert only(comparison).verdict == "unsure"
    assert "cannot separate code from process" in only(comparison).reason
    assert (only(comparison).base_seconds, only(comparison).candidate_seconds) == (1e-3, 2e-3)
    assert comparison.status() == 3


def test_processes_that_differ_widely_do_not_tell():
    wide = (1e-3, 1.3e-3, 0.8e-3)
    assert only(compare_sides(runs_of(*wide), runs_of(*wide, commit="b" * 40), TOLERANCE)).verdict == "unsure"


def test_the_interval_is_that_of_welch():
    generator = np.random.default_rng(0)
    base, candidate = (list(np.exp(generator.normal(0, spread, count))) for spread, count in ((0.1, 6), (0.3, 9)))
    found = unpaired(base, candidate, Rule(error=0.025))
    expected = stats.ttest_ind(np.log(candidate), np.log(base), equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_processes_that_agree_to_the_last_digit_have_an_interval_of_no_width():
    found = unpaired([1.0, 1.0], [1.1, 1.1], Rule())
    assert found.low == found.high == pytest.approx(math.log(1.1))


def test_a_case_that_vanished_is_gone_with_its_reason_and_never_fine():
    base = [("a", parse_document(document(benchmark(), benchmark("resnet18"))))]
    axes = benchmark("resnet18")["extra_info"]["axes"]
    candidate = [("b", parse_document(document(benchmark(), not_measured=[{"axes": axes, "reason": "out of memory"}])))]
    comparison = compare_sides(base, candidate, TOLERANCE)
    (gone,) = comparison.of("gone")
    assert (gone.case.architecture, gone.reason) == ("resnet18", "out of memory")
    assert comparison.status() == 3


def test_the_reason_may_be_that_of_many_cases():
    base = [("a", parse_document(document(benchmark("lenet5_avg", device="cuda"), benchmark())))]
    missing = [{"axes": {"device": "cuda"}, "reason": "no CUDA device"}]
    candidate = [("b", parse_document(document(benchmark(), not_measured=missing)))]
    (gone,) = [case for case in compare_sides(base, candidate, Tolerance()).cases if case.verdict == "gone"]
    assert gone.reason == "no CUDA device"


def test_a_case_that_is_new_is_told_and_does_not_fail():
    candidate = [("b", parse_document(document(benchmark(), benchmark("resnet18"))))]
    assert [one.case.architecture for one in compare_sides(runs_of(1e-3), candidate, TOLERANCE).of("new")] == [
        "resnet18"
    ]


def test_counters_are_compared_exactly():
    def counted(kernels):
        values = {"latency": metric("latency", 1e-3), "kernels": metric("kernels", kernels)}
        return [("a", parse_document(document(benchmark(metrics=values))))]

    comparison = compare_sides(counted(3), counted(4), TOLERANCE)
    assert [(change.name, change.kind) for change in comparison.counters] == [("kernels", "worse")]
    assert comparison.status() == 1


def test_runs_of_unlike_machines_are_refused_with_what_differs():
    environment = {"cpu_model": "Other CPU", "threads": 2, "load_average": 7.0}
    other = runs_of(1e-3, environment=environment)
    with pytest.raises(RunFileError, match="cpu_model 'Example CPU' and 'Other CPU'") as refused:
        compare_sides(runs_of(1e-3), other, TOLERANCE)
    assert "threads" not in str(refused.value)
    assert "load_average" not in str(refused.value)
    assert only(compare_sides(runs_of(1e-3), other, TOLERANCE, any_machine=True)).verdict == "unsure"


def test_runs_of_several_commits_are_not_one_side():
    with pytest.raises(RunFileError, match="runs of several commits on one side"):
        compare_sides([*runs_of(1e-3), *runs_of(1e-3, commit="b" * 40)], runs_of(1e-3), TOLERANCE)


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan])
def test_a_time_that_is_none_is_not_comparable(latency):
    values = {"latency": metric("latency", latency)}
    base = [("a", parse_document(document(benchmark(metrics=values))))]
    assert only(compare_sides(base, runs_of(1e-3), TOLERANCE)).verdict == "not-comparable"


def test_false_alarms_stay_within_the_error_of_the_rule():
    generator = np.random.default_rng(1)
    trials, rule = 3000, Rule(error=0.02)
    found = [unpaired(*np.exp(generator.normal(0, 0.1, (2, 5))), rule) for _ in range(trials)]
    assert sum(one.low > 0 for one in found) <= stats.binom.ppf(0.999, trials, rule.error)


def test_of_several_runs_the_run_is_the_datum_and_of_one_the_process():
    def side(commit, *runs):
        found = []
        for number, processes in enumerate(runs):
            entry = benchmark()
            entry["extra_info"]["processes"] = list(processes)
            whole = document(entry) | {"commit_info": {"id": commit * 40, "dirty": False}}
            found.append((f"{number}", parse_document(whole)))
        return found

    one = compare_sides(side("a", (1.0, 1.1, 0.9)), side("b", (1.0, 1.1, 0.9)), TOLERANCE)
    several = compare_sides(side("a", (1.0, 1.0), (1.1, 1.1)), side("b", (1.0, 1.0), (1.1, 1.1)), TOLERANCE)
    assert (only(one).found.count, only(several).found.count) == (6, 4)


def test_where_no_case_is_on_both_sides_nothing_is_told():
    base = [("a", parse_document(document()))]
    assert compare_sides(base, runs_of(1e-3, commit="0123456789" * 4), TOLERANCE).status() == 3


def test_a_time_that_is_not_finite_is_not_comparable():
    assert (
        only(compare_sides(runs_of(1e-3, math.inf), runs_of(*STEADY, commit="b" * 40), TOLERANCE)).verdict
        == "not-comparable"
    )


def test_a_baseline_is_of_one_commit():
    runs = [*runs_of(1e-3), *runs_of(1e-3, commit="b" * 40)]
    with pytest.raises(RunFileError, match="several commits"):
        Baseline(runs, Tolerance(0.05), fails=True)
