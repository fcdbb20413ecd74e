"""Leading cycles in which one of several cases was not yet warm."""

import numpy as np
import pytest

from cnnperf.stats.transient import transient


def made(generator, cycles, cases=4):
    return np.exp(generator.normal(0, 0.05, (cycles, cases)))


@pytest.mark.parametrize("cycles", [12, 24, 60, 200])
def test_without_a_transient_hardly_any_block_loses_a_cycle(cycles):
    generator = np.random.default_rng(1)
    assert sum(transient(made(generator, cycles)) > 0 for _ in range(300)) <= 6


@pytest.mark.parametrize("share", [0.2, 0.3, 0.45])
@pytest.mark.parametrize("cycles", [40, 100, 200])
def test_the_cycles_in_which_a_case_was_slower_are_dropped_up_to_a_rest_that_a_ratio_leaves_out(cycles, share):
    seconds = made(np.random.default_rng(1), cycles)
    slow = int(share * cycles)
    seconds[:slow, 0] *= 1.5
    dropped = transient(seconds)
    assert (slow - dropped) / (cycles - dropped) < 0.15
    assert dropped <= cycles / 2


def test_what_slows_all_cases_is_no_transient():
    seconds = made(np.random.default_rng(1), 60)
    seconds[:20] *= 2
    assert transient(seconds) == 0


def test_one_case_or_few_cycles_have_none():
    assert transient(np.array([[5.0], *[[1.0]] * 30])) == 0
    assert transient(np.array([[5.0, 1.0], *[[1.0, 1.0]] * 8])) == 0


def test_ties_are_no_transient():
    assert transient(np.ones((40, 3))) == 0
