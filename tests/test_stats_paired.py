"""Ratios of samples that were taken side by side, against samples whose ratio is known."""

import math

import numpy as np
import pytest

from cnnperf.stats.median import median_interval
from cnnperf.stats.paired import paired_ratio, paired_share

TRUE = 1.1
RUNS = 400


def groups(seconds):
    return [[value] for value in seconds]


def interval_of(generator, cycles, noise, common=lambda _, size: np.zeros(size)):
    """Return the interval of a ratio of `TRUE`, where both members of a pair share what is common to a cycle."""
    shared = common(generator, cycles)
    above, below = (np.exp(shared + noise(generator, cycles)) for _ in range(2))
    return paired_ratio(groups(TRUE * above), groups(below))


def normal(generator, size):
    return generator.normal(0, 0.05, size)


def heavy(generator, size):
    return 0.03 * generator.standard_t(2, size)


def skewed(generator, size):
    return generator.exponential(0.05, size)


def spiky(generator, size):
    """A machine on which every fifth turn is up to twice as long."""
    return generator.normal(0, 0.04, size) + np.where(
        generator.random(size) < 0.2, generator.exponential(0.25, size), 0
    )


def tied(generator, size):
    """A clock of coarse ticks."""
    return np.round(generator.normal(0, 0.05, size), 1)


def drift(generator, size):
    return np.linspace(0, 0.3, size)


def spikes(generator, size):
    return np.where(np.arange(size) % 10 == 0, 1.0, 0.0)


@pytest.mark.parametrize("cycles", [9, 25, 60])
@pytest.mark.parametrize("common", [drift, spikes])
@pytest.mark.parametrize("noise", [normal, heavy, skewed, spiky])
def test_the_interval_covers_the_truth_in_95_of_100_runs(noise, common, cycles):
    generator = np.random.default_rng(1)
    found = [interval_of(generator, cycles, noise, common) for _ in range(RUNS)]
    covered = sum(value.low <= TRUE <= value.high for value in found) / RUNS
    assert 0.925 <= covered <= 0.99


def test_what_both_members_of_a_pair_share_does_not_widen_the_interval():
    generator = np.random.default_rng(1)
    calm = interval_of(generator, 25, normal)
    generator = np.random.default_rng(1)
    drifting = interval_of(generator, 25, normal, drift)
    assert drifting.half_width == pytest.approx(calm.half_width)


def test_the_datum_is_the_median_of_a_turn():
    value = paired_ratio([[2.0, 2.0, 50.0]] * 9, [[1.0, 1.0, 1.0]] * 9)
    assert (value.value, value.rounds) == (pytest.approx(2.0), 9)


def test_a_single_cycle_has_no_bounded_interval():
    value = paired_ratio([[3.0]], [[2.0]])
    assert (value.value, value.low, value.high) == (pytest.approx(1.5), 0.0, math.inf)


def test_the_inverse_of_an_unbounded_interval_is_unbounded():
    inverse = paired_ratio([[3.0]], [[2.0]]).scaled_inverse(1.0)
    assert (inverse.low, inverse.high) == (0.0, math.inf)


@pytest.mark.parametrize("cycles", [5, 6, 7])
def test_few_cycles_cover_the_truth_nearly_as_often(cycles):
    generator = np.random.default_rng(1)
    found = [interval_of(generator, cycles, normal) for _ in range(RUNS)]
    assert sum(value.low <= TRUE <= value.high for value in found) / RUNS >= 0.9


def test_ties_do_not_narrow_the_interval():
    generator = np.random.default_rng(1)
    found = [interval_of(generator, 30, tied) for _ in range(RUNS)]
    assert sum(value.low <= TRUE <= value.high for value in found) / RUNS >= 0.92


@pytest.mark.parametrize(("correlation", "least"), [(0.2, 0.92), (0.4, 0.87)])
def test_neighbouring_cycles_that_are_alike_widen_the_interval(correlation, least):
    def alike(generator, size):
        noise = generator.normal(0, 0.05, size)
        for index in range(1, size):
            noise[index] += correlation * noise[index - 1]
        return noise

    generator = np.random.default_rng(1)
    found = [interval_of(generator, 120, alike) for _ in range(RUNS)]
    assert sum(value.low <= TRUE <= value.high for value in found) / RUNS >= least


@pytest.mark.parametrize("noise", [normal, heavy, spiky])
@pytest.mark.parametrize("cycles", [9, 40])
def test_the_interval_of_a_median_covers_the_truth(noise, cycles):
    generator = np.random.default_rng(1)
    middle = float(np.median(noise(np.random.default_rng(2), 200_000)))
    found = [median_interval(groups(np.exp(noise(generator, cycles)))) for _ in range(RUNS)]
    assert sum(value.low <= math.exp(middle) <= value.high for value in found) / RUNS >= 0.93


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("common", [drift, spikes])
@pytest.mark.parametrize("noise", [normal, heavy, spiky])
def test_the_interval_of_a_share_covers_the_truth(noise, common, share):
    generator, cycles, cost = np.random.default_rng(1), 30, 0.3
    covered = seen = 0
    for _ in range(RUNS):
        shared = common(generator, cycles)
        plain, costly, improved = (np.exp(shared + noise(generator, cycles)) for _ in range(3))
        value = paired_share(groups(plain), groups((1 + cost) * costly), groups((1 + cost * (1 - share)) * improved))
        if not math.isnan(value.value):
            seen += 1
            covered += value.low <= share <= value.high
    assert seen > RUNS * 0.9
    assert covered / seen >= 0.92


def test_the_share_of_a_cost_that_nobody_sees_is_not_a_number():
    generator = np.random.default_rng(1)
    plain, costly, improved = (groups(np.exp(generator.normal(0, 0.05, 9))) for _ in range(3))
    assert math.isnan(paired_share(plain, costly, improved).value)


def test_a_share_without_noise_is_exact():
    value = paired_share([[1.0]] * 9, [[2.0]] * 9, [[1.25]] * 9)
    assert (value.value, value.low, value.high) == pytest.approx((0.75, 0.75, 0.75))


def test_cases_with_other_numbers_of_cycles_have_no_ratio():
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([[1.0]] * 3, [[1.0]] * 4)
