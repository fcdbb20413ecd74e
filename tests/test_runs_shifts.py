"""Level shifts in planted histories: what is there is found where it is, and noise alone is not."""

import builtins
import math

import numpy as np
import pytest

from cnnperf.errors import CnnperfError
from cnnperf.stats.shifts import LEAST_RUNS, find_shifts

LEAST = math.log1p(0.025)
STEP = math.log1p(0.05)


def noise(seed, runs, spread=0.01, correlation=0.0):
    generator = np.random.default_rng(seed)
    values = generator.normal(0, spread, runs)
    for index in range(1, runs):
        values[index] = correlation * values[index - 1] + math.sqrt(1 - correlation**2) * values[index]
    return values


def step(before, after, size=STEP):
    return np.repeat((0.0, size), (before, after))


def test_a_step_is_found_with_its_place_and_an_interval_that_holds_its_size():
    held = 0
    for seed in range(20):
        (shift,) = find_shifts(noise(seed, 60) + step(40, 20), LEAST)
        assert shift.earliest <= 40 <= shift.latest
        assert abs(shift.index - 40) <= 1
        held += shift.low <= STEP <= shift.high
    assert held >= 17


def test_three_runs_at_a_new_level_are_enough_where_noise_is_a_fifth_of_it():
    found = [find_shifts(noise(seed, 63) + step(60, 3), LEAST) for seed in range(20)]
    assert sum(len(shifts) == 1 for shifts in found) >= 18


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("spread", [0.01, 0.03])
def test_noise_alone_is_no_shift_whether_independent_or_not(spread, correlation):
    found = [bool(find_shifts(noise(seed, 100, spread, correlation), LEAST)) for seed in range(40)]
    assert sum(found) <= 2


def test_spikes_are_no_shift():
    for seed in range(20):
        generator = np.random.default_rng(seed)
        series = noise(seed, 80)
        series[generator.choice(80, 4, replace=False)] += 0.2
        assert find_shifts(series, LEAST) == []


def test_two_spikes_in_a_row_are_no_shift():
    series = noise(0, 40)
    series[20:22] += 0.3
    assert find_shifts(series, LEAST) == []


def test_a_few_runs_that_took_ten_times_as_long_are_no_shift():
    for seed in range(10):
        series = noise(seed, 40)
        series[20:24] += math.log(10)
        assert find_shifts(series, LEAST) == []


def test_a_drift_is_no_shift():
    found = [bool(find_shifts(noise(seed, 100) + np.linspace(0, 0.08, 100), LEAST)) for seed in range(20)]
    assert sum(found) == 0


def test_up_and_down_again_are_two_shifts():
    series = noise(1, 90) + np.repeat((0.0, 0.1, 0.02), 30)
    assert [(shift.index, shift.size > 0) for shift in find_shifts(series, LEAST)] == [(30, True), (60, False)]


def test_a_shift_smaller_than_what_matters_is_left_alone():
    series = noise(2, 100, 0.001) + step(50, 50, math.log1p(0.01))
    assert find_shifts(series, LEAST) == []
    assert len(find_shifts(series, math.log1p(0.005))) == 1


def test_runs_that_agree_to_the_last_digit_have_a_shift_of_no_doubt():
    (shift,) = find_shifts(step(10, 10), LEAST)
    assert (shift.index, shift.earliest, shift.latest) == (10, 10, 10)
    assert shift.low == pytest.approx(shift.high) == pytest.approx(STEP)


def test_a_short_series_is_not_searched():
    assert find_shifts(step(LEAST_RUNS // 2, LEAST_RUNS // 2 - 1, 1.0), LEAST) == []


def test_a_stricter_level_asks_for_more_certainty():
    series = noise(3, 68, 0.03) + step(60, 8, 0.13)
    assert find_shifts(series, LEAST)
    assert find_shifts(series, LEAST, level=1e-15) == []


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(CnnperfError, match="not finite"):
        find_shifts([0.0] * 9 + [math.nan], LEAST)


def test_without_ruptures_the_message_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def importing(name, *arguments, **named):
        if name == "ruptures":
            raise ImportError(name, name=name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(CnnperfError, match=r"pip install 'cnnperf\[history\]'"):
        find_shifts(noise(0, 20), LEAST)
