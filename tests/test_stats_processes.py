"""Ratios over processes, simulated with a known truth."""

import math

import numpy as np
import pytest

from cnnperf.records.metrics import Value
from cnnperf.stats.paired import paired_ratio
from cnnperf.stats.processes import ratio_over_processes

TRUTH = 1.3
REPETITIONS = 500
CYCLES = 20
NOISE = 0.03


def ratios_of_processes(generator, count, spread):
    """Return the paired ratio of each process; processes differ by `spread`, cycles within one by `NOISE`."""
    ratios = []
    for level in generator.normal(0, spread, count):
        above, below = generator.normal(0, NOISE, (2, CYCLES))
        ratios.append(paired_ratio([[TRUTH * math.exp(level + x)] for x in above], [[math.exp(x)] for x in below]))
    return ratios


def covers(value):
    return value.low <= TRUTH <= value.high


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.05])
def test_the_interval_covers_the_truth_whatever_the_spread_between_processes(count, spread):
    generator = np.random.default_rng(count)
    covered = [covers(ratio_over_processes(ratios_of_processes(generator, count, spread))) for _ in range(REPETITIONS)]
    assert sum(covered) / REPETITIONS >= 0.92


def test_the_interval_of_one_process_does_not_cover_where_processes_differ():
    generator = np.random.default_rng(1)
    covered = [covers(ratios_of_processes(generator, 1, 0.05)[0]) for _ in range(REPETITIONS)]
    assert sum(covered) / REPETITIONS < 0.5


def test_processes_that_agree_by_chance_give_the_interval_of_all_their_cycles():
    one = paired_ratio(*ratio_of_known_noise())
    four = ratio_over_processes([one] * 4)
    assert four.value == pytest.approx(one.value)
    # Half the standard error, and a smaller quantile with more degrees of freedom.
    share = math.log(four.high / four.low) / math.log(one.high / one.low)
    assert 0.4 < share < 0.5


def ratio_of_known_noise():
    noise = np.random.default_rng(3).normal(0, NOISE, (2, CYCLES))
    return [[[math.exp(x)] for x in side] for side in noise]


def test_processes_that_differ_give_the_interval_of_their_spread():
    ratios = [Value(level, level * 0.999, level * 1.001, CYCLES) for level in (1.0, 1.1)]
    both = ratio_over_processes(ratios)
    assert both.value == pytest.approx(math.sqrt(1.1))
    # Student's t with one degree of freedom at 97.5 % is 12.706; the standard error is half the difference.
    assert math.log(both.high / both.value) == pytest.approx(12.706 * math.log(1.1) / 2, rel=1e-4)


def test_the_cycles_of_all_processes_are_counted():
    ratios = [Value(1.0, 0.9, 1.1, cycles) for cycles in (9, 12)]
    assert ratio_over_processes(ratios).rounds == 21


def test_the_interval_is_unbounded_where_that_of_a_process_is():
    both = ratio_over_processes([Value(1.0, 0.9, 1.1, 9), Value(1.1, 0.0, math.inf, 1)])
    assert (both.low, both.high) == (0.0, math.inf)


def test_one_process_has_no_spread():
    with pytest.raises(ValueError, match="at least 2, not 1"):
        ratio_over_processes([Value(1.0, 0.9, 1.1, 9)])
