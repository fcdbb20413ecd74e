"""The sequential rule of the gate: simulation with known truth, and scipy as the oracle."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnperf.errors import CnnperfError
from cnnperf.stats.sequential import (
    CONFIRMATION,
    LARGEST_LEVEL,
    LOOKS,
    Rule,
    confirm,
    control_differs,
    estimate,
    judge,
    processes_differ,
    trimmed_mean,
)

PASS = 8
RULE = Rule()


def passes_of(data):
    return [list(data[start : start + PASS]) for start in range(0, len(data), PASS)]


def draw(generator, count, shift=0.0, spread=0.02, kind="normal"):
    shapes = {
        "normal": generator.standard_normal(count),
        "heavy": generator.standard_t(3, count) / math.sqrt(3),
        "spiky": generator.standard_normal(count)
        + 10 * (generator.random(count) < 0.05) * generator.choice([-1, 1], count),
        "skewed": (generator.exponential(1, count) - generator.exponential(1, count)) / math.sqrt(2),
    }
    return math.log1p(shift) + spread * shapes[kind]


def run_rule(generator, rule=RULE, **noise):
    """Do what the gate does: look, and confirm an alarm by as many data again; return verdict and data used."""
    data = draw(generator, LOOKS[-1], **noise)
    for count in LOOKS:
        verdict = judge(passes_of(data[:count]), rule).verdict
        if verdict == "slower":
            again = draw(generator, LOOKS[-1], **noise)
            told = (confirm(passes_of(again[:more]), rule) for more in LOOKS if more >= count)
            return ("slower" if next((one for one in told if one is not None), False) else "unsure"), 2 * count
        if verdict:
            return verdict, count
    return "unsure", LOOKS[-1]


def rates(runs, seed=0, rule=RULE, **noise):
    generator = np.random.default_rng(seed)
    verdicts = [run_rule(generator, rule, **noise)[0] for _ in range(runs)]
    return {verdict: verdicts.count(verdict) / runs for verdict in set(verdicts)}


@pytest.mark.parametrize("kind", ["normal", "heavy", "spiky", "skewed"])
def test_unchanged_code_is_not_called_slower(kind):
    assert rates(400, kind=kind).get("slower", 0) == 0


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_a_slowdown_of_ten_percent_is_found_and_never_called_the_same(kind):
    found = rates(300, shift=0.1, kind=kind)
    assert found["slower"] >= 0.99
    assert "same" not in found


def test_a_slowdown_of_five_percent_is_found():
    found = rates(300, shift=0.05)
    assert found["slower"] >= 0.97
    assert found.get("same", 0) <= 0.01


def test_unchanged_code_is_called_the_same_and_a_speedup_faster():
    assert rates(200)["same"] >= 0.98
    assert rates(200, shift=-0.1)["faster"] >= 0.98


def test_where_the_spread_is_too_large_the_rule_cannot_tell():
    assert rates(100, spread=0.3)["unsure"] >= 0.9


@pytest.mark.slow
def test_the_error_of_a_whole_suite_stays_within_its_budget():
    """Without the confirmation, and at a looser look than any suite gets, so that there is something to count."""
    generator = np.random.default_rng(1)
    suites, cases = 60, 100
    alarms = 0
    for _ in range(suites):
        for _ in range(cases):
            data = draw(generator, LOOKS[-1], spread=0.1)
            looks = (estimate(passes_of(data[:count]), RULE, LARGEST_LEVEL) for count in LOOKS)
            alarms += any(found.low > 0 for found in looks)
    promised = suites * cases * len(LOOKS) * LARGEST_LEVEL
    assert alarms <= stats.poisson.ppf(0.999, promised)
    assert alarms * CONFIRMATION / suites <= RULE.error * 3


@pytest.mark.parametrize("cases", [1, 10, 100, 1000, 100_000])
def test_the_levels_of_all_looks_at_all_cases_add_up_to_no_more_than_the_budget(cases):
    rule = Rule(cases=cases)
    assert cases * len(LOOKS) * rule.level * CONFIRMATION <= rule.error * (1 + 1e-9)
    assert 2 * cases * rule.control_level <= rule.error * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_the_interval_covers_the_truth_as_often_as_it_says(kind):
    generator = np.random.default_rng(2)
    level, trials = 0.025, 2000
    found = [estimate(passes_of(draw(generator, 24, shift=0.03, kind=kind)), RULE, level) for _ in range(trials)]
    covered = sum(one.low <= math.log1p(0.03) <= one.high for one in found)
    assert covered >= stats.binom.ppf(0.001, trials, 1 - 2 * level) - 0.01 * trials


@pytest.mark.parametrize("count", [5, 10, 23, 96])
def test_the_trimmed_mean_is_that_of_scipy(count):
    data = np.random.default_rng(count).standard_normal(count)
    middle, error, freedom = trimmed_mean(data)
    assert middle == pytest.approx(stats.trim_mean(data, 0.1))
    winsorized = stats.mstats.winsorize(data, limits=(0.1, 0.1), inclusive=(True, True))
    cut = int(0.1 * count)
    assert error == pytest.approx(float(np.std(winsorized, ddof=1)) / ((1 - 2 * cut / count) * math.sqrt(count)))
    assert freedom == count - 2 * cut - 1


def test_without_trimming_the_interval_is_that_of_student():
    data = np.random.default_rng(0).standard_normal(8)  # a tenth of eight is none
    found = estimate([list(data)], RULE, 0.025)
    low, high = stats.t.interval(0.95, 7, data.mean(), stats.sem(data))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_where_processes_differ_the_pass_is_the_datum():
    generator = np.random.default_rng(3)
    shifted = [list(draw(generator, PASS, spread=0.002) + step) for step in (0.0, 0.05, -0.04, 0.06)]
    found = estimate(shifted, RULE, 0.0005)
    assert (found.unit, found.count) == ("pass", 4)
    assert found.low < 0 < found.high
    assert judge(shifted, RULE).verdict == ""


@pytest.mark.slow
def test_passes_of_one_spread_are_not_taken_for_different_processes():
    generator = np.random.default_rng(4)
    told = sum(processes_differ(passes_of(draw(generator, 48))) for _ in range(1000))
    assert told <= stats.binom.ppf(0.999, 1000, 0.001)


def test_data_that_are_all_equal_have_an_interval_of_no_width():
    found = estimate([[0.0] * 8, [0.0] * 8], RULE, 0.001)
    assert (found.low, found.middle, found.high) == (0, 0, 0)
    assert judge([[0.0] * 8, [0.0] * 8], RULE).verdict == "same"


def test_too_few_data_ask_for_more():
    assert judge([[0.0] * 15], RULE).verdict == ""
    assert judge([], RULE).found is None


def test_a_control_that_differs_is_seen_on_both_sides_and_one_that_does_not_is_not():
    generator = np.random.default_rng(5)
    for shift in (0.1, -0.1):
        assert control_differs(passes_of(draw(generator, 32, shift=shift)), RULE)
    assert not any(control_differs(passes_of(draw(generator, 32)), RULE) for _ in range(200))
    assert not control_differs([[0.5] * 15], RULE)


def test_what_would_have_been_visible_is_found_that_often():
    generator = np.random.default_rng(6)
    visible = float(np.median([estimate(passes_of(draw(generator, 32)), RULE, RULE.level).visible for _ in range(50)]))
    found = [estimate(passes_of(draw(generator, 32) + visible), RULE, RULE.level) for _ in range(500)]
    assert sum(one.low > 0 and one.middle > RULE.alarm for one in found) / 500 == pytest.approx(0.95, abs=0.04)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_ratio_that_is_no_number_is_refused(bad):
    with pytest.raises(CnnperfError, match="not a finite number"):
        estimate([[0.0, bad]], RULE, 0.01)


def test_one_datum_has_no_interval():
    with pytest.raises(CnnperfError, match="at least two re-instantiations, not 1"):
        estimate([[0.1]], RULE, 0.01)


@pytest.mark.parametrize("wrong", [{"error": 0}, {"error": 1}, {"cases": 0}])
def test_a_rule_that_cannot_be_meant_is_refused(wrong):
    with pytest.raises(CnnperfError):
        Rule(**wrong)
