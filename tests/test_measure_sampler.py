"""The schedule of rounds, on a scripted clock."""

import math

import pytest

from cnnperf.errors import WrongResult
from cnnperf.measure.clock import Reading
from cnnperf.measure.sampler import Samples, Schedule, sample, steady
from cnnperf.stats.median import median_interval, order_statistic_ranks
from cnnperf.testing import ScriptedClock, ScriptedSubject


def test_a_steady_call_stops_as_soon_as_the_interval_is_narrow():
    samples = sample(ScriptedSubject(), ScriptedClock(0.01), Schedule(budget=1.0))
    assert samples.stopped == "interval"
    assert len(samples.groups) == 9
    assert samples.latency().value == pytest.approx(0.01)
    assert samples.steady


def test_a_noisy_call_goes_on_until_the_budget_is_spent():
    noisy = ScriptedClock(iter([0.05, 0.09] * 1000))
    samples = sample(ScriptedSubject(), noisy, Schedule(budget=1.0))
    assert samples.stopped == "budget"
    assert sum(map(sum, samples.wall())) == pytest.approx(1.0, abs=0.1)


def test_a_call_longer_than_the_budget_still_gets_three_groups():
    samples = sample(ScriptedSubject(), ScriptedClock(5.0), Schedule(budget=1.0))
    assert [len(group) for group in samples.groups] == [1, 1, 1]


def test_each_group_after_that_of_the_warm_up_begins_at_a_fresh_placement():
    subject = ScriptedSubject()
    samples = sample(subject, ScriptedClock(0.1), Schedule())
    assert subject.events.count("relocate") == len(samples.groups) - 1


def test_the_rounds_that_showed_the_warm_up_to_be_over_are_the_first_group():
    durations = iter([0.009, 0.008, 0.007, *[0.005] * 3, *[0.0051, 0.0049, 0.005], *[0.006] * 1000])
    samples = sample(ScriptedSubject(), ScriptedClock(durations), Schedule())
    assert samples.wall()[0] == pytest.approx([0.005, 0.0051, 0.0049])
    assert samples.warmup_rounds == 5


def test_a_warm_up_that_never_settled_gives_no_group():
    falling = ScriptedClock(iter([0.5 * 0.8**n for n in range(200)]))
    subject = ScriptedSubject()
    samples = sample(subject, falling, Schedule(budget=0.01, warmup=0.4))
    assert subject.events.count("relocate") == len(samples.groups)


def test_each_timed_call_follows_its_own_untimed_setup():
    subject = ScriptedSubject()
    sample(subject, ScriptedClock(0.1), Schedule())
    calls = [event for event in subject.events if event != "relocate"]
    assert calls == ["setup", "run"] * (len(calls) // 2)


def test_the_first_round_of_a_fast_group_is_not_kept():
    schedule = Schedule(budget=0.105)  # ten rounds in a group
    durations = iter([0.001] * 6 + ([0.005] + [0.001] * 10) * 100)
    samples = sample(ScriptedSubject(), ScriptedClock(durations), schedule)
    assert max(max(group) for group in samples.wall()) == pytest.approx(0.001)


def test_warm_up_goes_on_while_rounds_become_faster():
    falling = [1.0 / (1 + n) for n in range(12)]
    samples = sample(ScriptedSubject(), ScriptedClock([*falling, 0.08]), Schedule(warmup=10.0))
    assert samples.warmup_rounds == 12
    assert samples.steady


def test_a_warm_up_that_never_settles_is_reported():
    falling = ScriptedClock(iter([0.5 * 0.8**n for n in range(200)]))
    samples = sample(ScriptedSubject(), falling, Schedule(budget=0.01, warmup=0.4))
    assert not samples.steady


@pytest.mark.parametrize("reading", [-0.5, 0.0, math.nan, math.inf])
def test_a_clock_that_jumps_is_an_error_not_a_sample(reading):
    durations = iter([0.01] * 20 + [reading] + [0.01] * 1000)
    with pytest.raises(WrongResult, match="the clock jumped"):
        sample(ScriptedSubject(), ScriptedClock(durations), Schedule())


def test_a_sleep_in_the_timed_call_is_in_the_latency_and_leaves_the_cpu_idle():
    clock = ScriptedClock(0.001)
    samples = sample(ScriptedSubject(body=lambda: clock.sleep(0.009)), clock, Schedule())
    assert samples.latency().value == pytest.approx(0.010)
    assert samples.cpu_busy() == pytest.approx(0.1)


def test_one_round_is_never_steady():
    assert not steady([1.0])


@pytest.mark.parametrize(("groups", "ranks"), [(6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (12, (2, 9)), (20, (5, 14))])
def test_ranks_are_those_of_the_binomial_tables(groups, ranks):
    assert order_statistic_ranks(groups) == ranks


def test_the_interval_is_built_on_groups_not_on_rounds():
    groups = [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    value = median_interval(groups)
    assert (value.value, value.low, value.high, value.rounds) == (1.5, 1.0, 2.0, 6)


def test_a_single_group_is_doubted_by_the_range_of_its_rounds():
    value = median_interval([[1.0, 3.0, 2.0]])
    assert (value.value, value.low, value.high) == (2.0, 1.0, 3.0)


def test_an_interval_turns_around_when_seconds_become_images_per_second():
    rate = median_interval([[1.0], [2.0], [4.0]]).scaled_inverse(8)
    assert (rate.value, rate.low, rate.high) == (4.0, 2.0, 8.0)


def test_the_setup_of_a_round_is_timed_apart_from_its_call():
    clock = ScriptedClock(0.010)
    subject = ScriptedSubject()
    subject.setup = lambda: clock.sleep(0.004)
    samples = sample(subject, clock, Schedule())
    assert samples.setup_latency().value == pytest.approx(0.004)
    assert samples.latency().value == pytest.approx(0.010)


def test_what_was_dropped_and_every_call_of_a_round_counts_as_spent():
    samples = Samples(groups=[[Reading(0.5, 0.5)], [Reading(0.25, 0.25), Reading(0.25, 0.25)]])
    samples.count_as_warm_up(1)
    assert len(samples.groups) == 1
    assert samples.spent() == pytest.approx(1.0)
    assert samples.per_call(10).spent() == pytest.approx(1.0)
