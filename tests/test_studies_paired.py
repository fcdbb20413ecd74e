"""Paired differences: the textbook's interval, planted effects, and none where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnperf.errors import OptionError
from cnnperf.studies.paired import paired_difference, paired_ratio


def pairs(effect, seeds=10, shared=5.0, own=0.5, seed=0):
    """Return both sides: what a seed shares is large, what differs within it is small."""
    generator = np.random.default_rng(seed)
    common = generator.normal(90, shared, seeds)
    base, candidate = (common + generator.normal(0, own, seeds) for _ in range(2))
    return list(base), list(candidate + effect)


def test_the_interval_is_that_of_the_paired_t_test():
    base, candidate = pairs(1.0)
    found = paired_difference(base, candidate)
    expected = stats.ttest_rel(candidate, base).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.pairs == 10


def test_a_planted_effect_is_decided_though_seeds_differ_by_more():
    found = paired_difference(*pairs(2.0))
    assert found.decided
    assert found.low < 2.0 < found.high


def test_no_effect_is_decided_in_one_of_twenty():
    decided = sum(paired_difference(*pairs(0.0, seed=seed)).decided for seed in range(1000))
    assert 30 <= decided <= 70


def test_no_difference_at_all_is_not_decided():
    assert not paired_difference([1.0, 2.0], [1.0, 2.0]).decided


def test_splits_of_the_same_data_widen_the_interval():
    alone, shared = (paired_difference(*pairs(1.0), overlap) for overlap in (0.0, 1 / 3))
    assert (shared.high - shared.low) / (alone.high - alone.low) == pytest.approx(((1 / 10 + 1 / 3) * 10) ** 0.5)
    assert shared.mean == alone.mean


def test_a_few_equal_differences_decide_nothing():
    assert not paired_difference([1.0, 2.0, 3.0, 4.0], [1.3, 2.3, 3.3, 4.3]).decided
    assert paired_difference([1.0, 2.0, 3.0, 4.0, 5.0], [1.3, 2.3, 3.3, 4.3, 5.3]).decided


def test_no_effect_is_rarely_decided_where_every_seed_splits_the_same_images():
    """Each side scores every image once and for all, and a seed draws which of them count."""
    generator = np.random.default_rng(0)
    decided = 0
    for _ in range(400):
        base, candidate = generator.random((2, 1000)) < 0.9
        draws = [generator.permutation(1000)[:200] for _ in range(10)]
        scores = [[float(side[draw].mean()) for draw in draws] for side in (base, candidate)]
        decided += paired_difference(*scores, 200 / 600).decided
    assert decided <= 40


def test_one_pair_decides_nothing():
    found = paired_difference([1.0], [2.0])
    assert (found.mean, found.low, found.high, found.decided) == (1.0, -math.inf, math.inf, False)


def test_a_ratio_is_the_geometric_mean():
    found = paired_ratio([1.0, 10.0, 100.0, 1.0, 1.0], [2.0, 20.0, 201.0, 2.0, 1.99])
    assert found.mean == pytest.approx(1.0, rel=1e-2)
    assert found.decided


@pytest.mark.parametrize(("base", "candidate"), [([], []), ([1.0], []), ([1.0, math.nan], [1.0, 1.0])])
def test_sides_that_are_no_pairs_are_refused(base, candidate):
    with pytest.raises(OptionError, match="pair"):
        paired_difference(base, candidate)


def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(OptionError, match="not above 0"):
        paired_ratio([0.0, 1.0], [1.0, 1.0])
