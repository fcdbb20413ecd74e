"""Ratios of samples that were taken side by side, against samples whose ratio is known."""

import math

import numpy as np
import pytest

from cnnperf.stats.paired import paired_ratio

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


def drift(generator, size):
    return np.linspace(0, 0.3, size)


def spikes(generator, size):
    return np.where(np.arange(size) % 10 == 0, 1.0, 0.0)


@pytest.mark.parametrize("cycles", [9, 25, 60])
@pytest.mark.parametrize("common", [drift, spikes])
@pytest.mark.parametrize("noise", [normal, heavy, skewed])
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
