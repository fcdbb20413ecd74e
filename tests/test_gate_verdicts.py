"""Verdicts and counters as records, their exit status, and how they read."""

import math

import pytest

from cnnperf.records.case import Case
from cnnperf.report.verdicts import comparison_lines
from cnnperf.runs.verdicts import (
    CaseVerdict,
    Comparison,
    ControlFound,
    CounterChange,
    counter_changes,
    fingerprint_changes,
)
from cnnperf.stats.sequential import Estimate, Rule

CASE = Case("lenet5", batch=128)
FOUND = Estimate(math.log(1.08), math.log(1.06), math.log(1.1), 24, "re-instantiation", math.log(1.03))


def verdict(word, found=FOUND):
    return CaseVerdict(CASE, word, "why", found, 0.002, 0.00216)


def result(*words, **others):
    cases = tuple(map(verdict, words))
    return Comparison("main (0123456789)", "work tree (abcdefabcd)", Rule(), cases, **{"counted": 1, **others})


WORSE = CounterChange(CASE, "graph_breaks", 0, 1, "worse")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (result("same", "faster", "new"), 0),
        (result("same", "slower"), 1),
        (result("same", "unsure"), 3),
        (result("slower", "unsure"), 1),
        (result("same", "gone"), 3),
        (result("same", "not-comparable"), 3),
        (result(), 0),
        (result(counted=0), 3),
        (result("same", counters=(WORSE,)), 1),
        (result("same", counters=(CounterChange(CASE, "flop", 1, 2, "worse", accepted=True),)), 0),
        (result("same", counters=(CounterChange(CASE, "flop", 2, 1, "better"),)), 0),
        (result("same", counters=(CounterChange(CASE, "output", 2, 1, "changed"),)), 0),
        (result("same", wrong={"lenet5": "off"}), 1),
        (result("slower", control=(ControlFound(CASE, FOUND),)), 3),
        (result("same", control=(ControlFound(CASE, FOUND),)), 3),
        (result("same", control=(ControlFound(CASE, FOUND),), counters=(WORSE,)), 1),
    ],
)
def test_the_status_is_one_for_what_is_surely_worse_and_three_for_what_could_not_be_told(given, status):
    assert given.status() == status


def test_counters_are_compared_exactly_and_in_their_direction():
    before = {"flop": 10, "parameters": 5, "peak_memory": 100, "graphs": 1, "kernels": 3}
    after = {"flop": 11, "parameters": 6, "peak_memory": 99, "graphs": 1, "operators": 7}
    found = {change.name: (change.kind, change.before, change.after) for change in counter_changes(CASE, before, after)}
    assert found == {
        "flop": ("worse", 10, 11),
        "parameters": ("changed", 5, 6),
        "peak_memory": ("better", 100, 99),
        "kernels": ("changed", 3, None),
        "operators": ("changed", None, 7),
    }


def test_equal_counters_and_results_are_no_change():
    assert counter_changes(CASE, {"flop": 1}, {"flop": 1}) == []
    assert fingerprint_changes(CASE, {"output": [1.0, 0.5]}, {"output": [1.0 + 1e-6, 0.5]}) == []


@pytest.mark.parametrize("after", [[1.001, 0.5], [1.0, 0.501], [math.nan, 0.5]])
def test_a_result_beyond_rounding_is_named(after):
    (change,) = fingerprint_changes(CASE, {"output": [1.0, 0.5]}, {"output": after})
    assert (change.name, change.kind) == ("output", "changed")


def test_of_many_gradients_the_furthest_is_named():
    before = {f"gradient of {name}": [1.0, 0.0] for name in "abc"}
    after = {**before, "gradient of a": [1.1, 0.0], "gradient of b": [2.0, 0.0]}
    (change,) = fingerprint_changes(CASE, before, after)
    assert change.name == "gradient of b and 1 others"


def test_a_result_that_one_side_lacks_is_named():
    (change,) = fingerprint_changes(CASE, {}, {"output": [1.0, 0.5]})
    assert (change.before, change.after) == (None, 1.0)


def test_the_report_leads_with_the_answer_and_ends_with_what_could_have_been_seen():
    lines = comparison_lines(result("same", "slower", counters=(WORSE,), seconds=75.0))
    text = "\n".join(lines)
    assert lines[0].startswith("work tree (abcdefabcd) against main (0123456789): 1 slower, 1 same; 1 counters worse")
    assert "graph_breaks 0 -> 1 (worse)" in text
    assert "+8.0% [+6.0%, +10.0%]" in text
    assert "3.0%" in lines[-2] + lines[-1]
    assert text.index("slower  ") < text.index("same  ")
    assert max(map(len, lines)) <= 100


def test_a_report_of_a_withdrawn_gate_says_so_first():
    lines = comparison_lines(result("slower", control=(ControlFound(CASE, FOUND),)))
    assert "no verdict on time, because the base differs from itself" in " ".join(" ".join(lines[:2]).split())


def test_a_report_without_any_case_says_that_nothing_was_measured():
    assert comparison_lines(result())[-1].startswith("No time was measured")


def flop(batch, before, after, **others):
    return CounterChange(CASE.replace(batch=batch), "flop", before, after, "worse", **others)


def test_a_counter_that_differs_in_many_cases_has_one_line():
    same = tuple(flop(batch, 611e6, 762e6) for batch in range(1, 7))
    lines = comparison_lines(result("same", counters=same, counted=6))
    assert "  flop +24.7% in all 6 cases: 611 Mflop -> 762 Mflop (worse)" in lines
    several = (flop(1, 1e6, 1.1e6), flop(2, 2e6, 2.4e6), flop(3, 2e6, 2.4e6, accepted=True))
    text = "\n".join(comparison_lines(result("same", counters=several, counted=6)))
    assert "flop +10.0% to +20.0% in 2 of 6 cases, in lenet5 forward cpu eager batch 1: 1.00 Mflop" in text
    assert "lenet5 forward cpu eager batch 3: flop 2,000,000 flop -> 2,400,000 flop (worse, accepted)" in text
    details = "\n".join(comparison_lines(result("same", counters=same, counted=6), verbose=True))
    assert details.count("611,000,000 flop -> 762,000,000 flop") == 6


def test_no_name_is_cut_in_the_middle():
    name = "a_package_with_a_long_name.and_a_module_of_it:and_a_network_whose_name_is_no_shorter_than_the_others"
    change = CounterChange(CASE.replace(architecture=name), "live_tensor_memory", 123456789, 234567890, "worse")
    assert name in " ".join(line.strip() for line in comparison_lines(result("same", counters=(change,))))
