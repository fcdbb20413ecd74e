"""Growth of gradients on planted series: what grows, shrinks, stays, turns, and is no number."""

import math

import numpy as np
import pytest

from cnnperf.errors import OptionError
from cnnperf.stats.growth import BATCH_NORM_GROWTH, LIMIT, fit_growth

LAYERS = list(range(0, 41, 2))


def planted(rate, seeds=10, noise=0.02, layers=LAYERS):
    generator = np.random.default_rng(0)
    return [[rate**layer * math.exp(generator.normal(0, noise)) for layer in layers] for _ in range(seeds)]


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(1.21, "explodes"), (0.41, "vanishes"), (1.0, "stable"), (1.04, "stable"), (0.95, "stable"), (0.85, "vanishes")],
)
def test_a_planted_rate_is_found_with_its_verdict(rate, verdict):
    found = fit_growth(LAYERS, planted(rate))
    assert found.verdict == verdict
    assert found.low < rate < found.high
    assert found.high - found.low < 0.01
    assert found.halves == pytest.approx((rate, rate), rel=0.01)
    assert found.seeds == 10


def test_an_interval_across_a_limit_decides_nothing():
    found = fit_growth(LAYERS, planted(LIMIT, noise=0.5))
    assert found.low < LIMIT < found.high
    assert found.verdict == "not decided"
    assert found.reason.endswith("with intervals across 0.909 or 1.1")


def test_seeds_that_go_apart_decide_nothing():
    assert fit_growth(LAYERS, [*planted(1.3, seeds=3), *planted(0.7, seeds=3)]).verdict == "not decided"


def test_a_rate_that_changes_is_told_by_halves():
    slowing = [[seed * (1 + layer) ** 0.9 for layer in LAYERS] for seed in (1.0, 1.01, 0.99)]
    found = fit_growth(LAYERS, slowing)
    assert found.halves[0] > 1.05 * found.halves[1]
    assert "at first and" in found.reason
    assert fit_growth(LAYERS[::-1], [list(reversed(series)) for series in slowing]) == found


def test_exploding_at_first_alone_is_no_verdict():
    bent = [[1.3 ** min(layer, 20) * seed for layer in LAYERS] for seed in (1.0, 1.1, 0.9)]
    found = fit_growth(LAYERS, bent)
    assert found.low > LIMIT
    assert found.verdict == "not decided"


def test_two_depths_cannot_tell_a_rate():
    found = fit_growth([10, 20], [[1.0, 7.0], [1.1, 7.1]])
    assert (found.verdict, found.reason) == (
        "not decided",
        "two depths cannot show whether the rate changes",
    )
    assert all(map(math.isnan, found.halves))


def test_norms_that_rise_and_fall_again_have_no_rate():
    there_and_back = [[10.0 ** (4 - abs(place - 4)) for place in range(9)]] * 3
    found = fit_growth(range(9), there_and_back)
    assert found.rate == pytest.approx(1.0)
    assert found.verdict == "not decided"
    assert found.reason.startswith("the norms stray from one rate by a factor of ")


@pytest.mark.parametrize(
    ("values", "verdict", "reason"),
    [
        ([math.nan], "not decided", "a norm is not a number"),
        ([-1.0], "not decided", "a norm is not a number of at least 0"),
        ([0.0], "vanishes", "a norm became 0"),
        ([math.inf], "explodes", "a norm became infinite"),
        ([0.0, math.inf], "not decided", "some norms became 0 and others infinite"),
    ],
)
def test_norms_without_a_logarithm_are_told(values, verdict, reason):
    series = planted(1.0)
    series[3][: len(values)] = values
    found = fit_growth(LAYERS, series)
    assert found.verdict == verdict
    assert found.reason.startswith(reason)
    assert math.isnan(found.rate)


def test_one_seed_has_a_rate_and_no_verdict():
    found = fit_growth(LAYERS, planted(1.5, seeds=1, noise=0))
    assert found.rate == pytest.approx(1.5)
    assert (found.low, found.high) == (0.0, math.inf)
    assert (found.verdict, found.reason) == ("not decided", "one seed has no interval")


@pytest.mark.parametrize(("layers", "norms"), [([1], [[1.0]]), ([1, 1], [[1.0, 1.0]]), ([1, 2], []), ([1, 2], [[1.0]])])
def test_what_no_line_can_be_fitted_to_is_refused(layers, norms):
    with pytest.raises(OptionError, match="a growth is fitted to at least one series"):
        fit_growth(layers, norms)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        slopes = generator.normal(math.log(1.2), 0.01, 8)
        found = fit_growth([0, 10, 20], [[1.0, math.exp(10 * slope), math.exp(20 * slope)] for slope in slopes])
        covered += found.low < 1.2 < found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_theory_is_the_number_of_the_paper():
    assert pytest.approx(1.2112, abs=5e-5) == BATCH_NORM_GROWTH
