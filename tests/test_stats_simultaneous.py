"""Verdicts on all ratios of a run, against made runs whose truth is known."""

import math

import numpy as np
import pytest

from cnnperf.records.metrics import Value
from cnnperf.stats.paired import paired_ratio
from cnnperf.stats.simultaneous import (
    ABOVE,
    BELOW,
    SAME,
    UNKNOWN,
    UNSURE,
    error_of_difference,
    error_of_equality,
    is_decided,
    verdicts_on,
)

RUNS = 400
RATIOS = 45
CYCLES = 24


def ratio(log, half, cycles=40):
    return Value(math.exp(log), math.exp(log - half), math.exp(log + half), cycles)


def made_run(generator, truth, noise=0.05):
    """Return the ratios of a run, one for each true ratio."""
    ratios = []
    for true in truth:
        above, below = generator.normal(0, noise, (2, CYCLES))
        ratios.append(paired_ratio([[true * math.exp(x)] for x in above], [[math.exp(x)] for x in below]))
    return ratios


def says_something_false(verdicts, truth, smallest=0.02):
    differs = any(
        (verdict == ABOVE and true <= 1) or (verdict == BELOW and true >= 1)
        for verdict, true in zip(verdicts, truth, strict=True)
    )
    pairs = zip(verdicts, truth, strict=True)
    return differs or any(verdict == SAME and abs(math.log(true)) >= math.log1p(smallest) for verdict, true in pairs)


@pytest.mark.parametrize(
    "truth",
    [
        [1.0] * RATIOS,
        [1.02] * RATIOS,
        [1.0] * 15 + [1.021] * 15 + [1.3] * 15,
    ],
    ids=["all equal", "all at the smallest difference", "mixed"],
)
@pytest.mark.parametrize("noise", [0.05, 0.015])
def test_at_most_one_run_in_twenty_says_anything_false(truth, noise):
    generator = np.random.default_rng(1)
    false = sum(says_something_false(verdicts_on(made_run(generator, truth, noise)), truth) for _ in range(RUNS))
    assert false / RUNS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def test_verdicts_by_single_intervals_would_be_false_in_most_runs():
    generator = np.random.default_rng(1)
    runs = [made_run(generator, [1.0] * RATIOS) for _ in range(50)]
    assert sum(any(not value.low <= 1 <= value.high for value in run) for run in runs) > 35


def test_a_large_difference_and_a_narrow_equality_are_said():
    verdicts = verdicts_on([ratio(0.2, 0.02), ratio(-0.2, 0.02), ratio(0.0, 0.005), ratio(0.03, 0.03)])
    assert verdicts == [ABOVE, BELOW, SAME, UNSURE]


def test_a_sure_difference_too_small_to_matter_is_the_same():
    assert verdicts_on([ratio(0.005, 0.002)]) == [SAME]
    assert verdicts_on([ratio(0.005, 0.002)], smallest=0.001) == [ABOVE]


def test_more_ratios_need_more_evidence():
    seen = ratio(0.03, 0.025)
    assert verdicts_on([seen])[0] == ABOVE
    assert verdicts_on([seen, *[ratio(0.0, 0.05)] * 44])[0] == UNSURE


def test_decided_ratios_leave_more_of_the_error_to_the_others():
    seen, clear, open_ = ratio(0.03, 0.022), ratio(1.0, 0.01), ratio(0.0, 0.05)
    assert verdicts_on([seen, *[open_] * 9])[0] == UNSURE
    assert verdicts_on([seen, *[clear] * 9])[0] == ABOVE


@pytest.mark.parametrize(
    "value",
    [
        Value(1.2),
        Value(math.nan, 1.0, 1.3, 9),
        Value(math.inf, 1.0, math.inf, 9),
        Value(0.0, 0.0, 0.0, 9),
        Value(1.2, -1.0, 1.3, 9),
        Value(1.2, 1.25, 1.3, 9),
        Value(1.2, math.nan, 1.3, 9),
    ],
)
def test_without_a_number_within_its_interval_nothing_is_known(value):
    assert verdicts_on([value]) == [UNKNOWN]


def test_an_unbounded_interval_is_unsure():
    assert verdicts_on([Value(1.5, 0.0, math.inf, 1)]) == [UNSURE]


def test_ties_without_any_spread_are_decided_by_their_value():
    assert verdicts_on([ratio(0.0, 0.0), ratio(0.1, 0.0)]) == [SAME, ABOVE]


def test_the_error_of_a_difference_is_that_of_its_interval():
    assert error_of_difference(ratio(0.1, 0.1)) == pytest.approx(0.05)
    assert error_of_equality(ratio(math.log1p(0.02) - 0.05, 0.05), 0.02) == pytest.approx(0.5, rel=0.7)


def test_fewer_cycles_have_heavier_tails():
    errors = [error_of_difference(ratio(0.2, 0.1, cycles)) for cycles in (6, 12, 100)]
    assert errors == sorted(errors, reverse=True)


def test_a_ratio_over_few_processes_needs_a_larger_difference_than_its_cycles_say():
    seen, clear = ratio(0.1, 0.06, cycles=100), ratio(0.1, 0.02, cycles=100)
    assert verdicts_on([seen, seen, clear]) == [ABOVE] * 3
    assert verdicts_on([seen, seen, clear], freedoms=[1, 1, None]) == [UNSURE, UNSURE, ABOVE]
    assert error_of_difference(ratio(0.1, 0.1), 1) == pytest.approx(0.05)


def test_a_quotient_of_medians_is_judged_by_the_side_of_its_interval_that_matters():
    skewed = Value(1.2, 1.19, 2.0)
    assert error_of_difference(skewed) < error_of_difference(Value(1.2, 1.01, 1.21))


def test_an_early_decision_needs_more_than_a_verdict():
    seen, sure = ratio(0.1, 0.06), ratio(0.1, 0.02)
    assert verdicts_on([seen]) == [ABOVE]
    assert not is_decided(seen, 0.02, 1)
    assert is_decided(sure, 0.02, 1)
    assert not is_decided(Value(1.5, 0.0, math.inf, 1), 0.02, 1)
