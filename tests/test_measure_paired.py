"""Subjects side by side, on a scripted clock."""

import math
import random
from collections import Counter
from itertools import chain, pairwise, repeat

import pytest

from cnnperf.errors import WrongResult
from cnnperf.measure.cycles import Instruments
from cnnperf.measure.paired import draw_order, sample_block, sample_together
from cnnperf.measure.sampler import Schedule
from cnnperf.stats.paired import paired_ratio
from cnnperf.testing import ScriptedClock, ScriptedSubject


def pair(clock, first=0.003, second=0.001):
    """Give two subjects that take so many seconds in addition to the script."""
    return {
        "slow": ScriptedSubject(body=lambda: clock.sleep(first)),
        "fast": ScriptedSubject(body=lambda: clock.sleep(second)),
    }


def test_the_ratio_is_that_of_rounds_side_by_side():
    clock = ScriptedClock(0.001)
    together = sample_together(pair(clock), clock, Schedule())
    assert together.ratio("slow", "fast").value == pytest.approx(2.0)
    assert together.latency("fast").value == pytest.approx(0.002)
    assert together.stopped == "interval"


def test_a_machine_that_becomes_slower_moves_the_latency_but_not_the_ratio():
    scale = chain(repeat(1.0, 200), repeat(3.0))
    clock = ScriptedClock(repeat(1e-9))

    def body(seconds):
        return lambda: clock.sleep(seconds * next(scale))

    subjects = {"slow": ScriptedSubject(body=body(0.002)), "fast": ScriptedSubject(body=body(0.001))}
    together = sample_together(subjects, clock, Schedule(settled_groups=30))
    assert together.latency("fast").half_width > 0.1 or together.latency("fast").value > 0.0015
    assert together.ratio("slow", "fast").value == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("names", ["ab", "abc", "abcdef"])
def test_every_round_has_an_order_of_its_own_in_which_no_subject_follows_itself(names):
    order = draw_order(list(names), 600, seed=1)
    assert all(sorted(order[start : start + len(names)]) == list(names) for start in range(0, len(order), len(names)))
    pairs = Counter(pairwise([names[-1], *order]))
    assert all(first != second for first, second in pairs)
    if len(names) > 2:  # each follows each other as often, but for chance
        assert len(pairs) == len(names) * (len(names) - 1)
        assert max(pairs.values()) <= 2 * min(pairs.values())


def test_in_each_cycle_every_subject_has_one_turn_in_an_order_that_is_drawn_anew():
    clock, order = ScriptedClock(0.01), []
    subjects = {name: ScriptedSubject() for name in "abc"}
    asked = [("a", "b"), ("c", "b")]
    schedule = Schedule(budget=3.0, interval=0.0)
    samples = sample_block(subjects, clock, schedule, asked, Instruments(after_turn=order.append))
    assert order[:3] == ["a", "b", "c"], "the warm-ups come first"
    cycles = ["".join(order[start : start + 3]) for start in range(3, len(order), 3)]
    assert {"".join(sorted(cycle)) for cycle in cycles} == {"abc"}
    assert len(set(cycles)) > 3
    assert {len(each.groups) for each in samples.values()} == {len(cycles)}


@pytest.mark.parametrize(("slowest", "rounds"), [(0.3, 1), (0.011, 1), (0.004, 3), (0.001, 9), (1e-6, 199)])
def test_a_turn_of_the_slowest_subject_lasts_some_ten_milliseconds_or_one_round(slowest, rounds):
    clock = ScriptedClock(repeat(1e-9))
    subjects = {
        name: ScriptedSubject(body=lambda seconds=seconds: clock.sleep(seconds))
        for name, seconds in (("short", slowest / 3), ("long", slowest))
    }
    samples = sample_block(subjects, clock, Schedule(), [("short", "long")])
    for name in subjects:
        assert {len(group) for group in samples[name].groups} == {rounds}


def two_devices(host=0.1, device=0.001):
    """Give a subject of a slow and two of a fast device, one of which varies by 1 %, and the clock of each."""
    slow, fast = ScriptedClock(1e-9), ScriptedClock(1e-9)
    noise = random.Random(0)
    bodies = {
        "host": (slow, lambda: slow.sleep(host)),
        "device": (fast, lambda: fast.sleep(device)),
        "other": (fast, lambda: fast.sleep(2 * device * noise.uniform(0.99, 1.01))),
    }
    subjects = {name: ScriptedSubject(body=body) for name, (_, body) in bodies.items()}
    return subjects, {name: clock for name, (clock, _) in bodies.items()}


DEVICES_ASKED = [("host", "device"), ("other", "device")]


def test_subjects_of_two_devices_are_each_timed_by_the_clock_of_theirs():
    subjects, clocks = two_devices()
    samples = sample_block(subjects, clocks, Schedule(), DEVICES_ASKED)
    assert len({len(each.groups) for each in samples.values()}) == 1
    assert paired_ratio(samples["host"].wall(), samples["device"].wall()).value == pytest.approx(100, rel=1e-3)
    assert {each.stopped for each in samples.values()} == {"interval"}


def test_where_a_slow_device_has_spent_its_budget_the_others_go_on_among_themselves():
    subjects, clocks = two_devices(host=1.0)
    turns = []
    schedule = Schedule(budget=2.5, interval=0.0)
    samples = sample_block(subjects, clocks, schedule, DEVICES_ASKED, Instruments(after_turn=turns.append))
    cycles = {name: len(each.groups) for name, each in samples.items()}
    assert cycles["host"] == 3
    assert cycles["device"] == cycles["other"] > 200
    assert sorted(turns[3:12]) == ["device"] * 3 + ["host"] * 3 + ["other"] * 3
    assert "host" not in turns[12:]
    spent = sum(sum(map(sum, samples[name].wall())) for name in ("device", "other"))
    assert spent == pytest.approx(5.0, rel=0.01)
    assert {each.stopped for each in samples.values()} == {"budget"}


def test_what_goes_on_alone_still_ends_with_its_ratios():
    subjects, clocks = two_devices(host=2.0)
    samples = sample_block(subjects, clocks, Schedule(budget=2.5), DEVICES_ASKED)
    assert samples["host"].stopped == "budget"
    assert samples["device"].stopped == samples["other"].stopped == "interval"
    spent = sum(sum(map(sum, samples[name].wall())) for name in ("device", "other"))
    assert spent == pytest.approx(2.5 * 2 / 2, rel=0.2), "half of their budget"


def test_an_interrupt_keeps_the_whole_cycles_of_each_device():
    subjects, clocks = two_devices(host=1.0)
    turns = []

    def interrupt(name):
        turns.append(name)
        if len(turns) == 50:
            raise KeyboardInterrupt

    schedule = Schedule(budget=2.5, interval=0.0)
    samples = sample_block(subjects, clocks, schedule, DEVICES_ASKED, Instruments(after_turn=interrupt))
    cycles = {name: len(each.groups) for name, each in samples.items()}
    assert cycles["host"] == 3
    assert cycles["device"] == cycles["other"] == 3 + (50 - 12) // 2
    assert {each.stopped for each in samples.values()} == {"interrupted"}


def test_an_interrupt_before_two_whole_cycles_keeps_nothing():
    subjects, clocks = two_devices(host=1.0)
    turns = []

    def interrupt(name):
        turns.append(name)
        if len(turns) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_block(subjects, clocks, Schedule(), DEVICES_ASKED, Instruments(after_turn=interrupt))


class Counting:
    """A meter of energy that counts how often it is read."""

    def __init__(self):
        self.reads = 0

    def joules(self):
        self.reads += 1
        return 2.0 * self.reads


def test_energy_is_read_around_the_turns_of_the_subjects_that_have_a_meter():
    subjects, clocks = two_devices()
    meter = Counting()
    instruments = Instruments(meters={"host": meter})
    samples = sample_block(subjects, clocks, Schedule(), DEVICES_ASKED, instruments)
    assert meter.reads == 2 * len(samples["host"].groups)
    assert samples["host"].energy == [2.0] * len(samples["host"].groups)
    assert samples["device"].energy == samples["other"].energy == []


def test_only_the_ratios_that_are_asked_for_end_the_sampling():
    noise = random.Random(0)
    clock = ScriptedClock(repeat(1e-9))
    bodies = {
        "steady": lambda: clock.sleep(1e-3),
        "alike": lambda: clock.sleep(2e-3),
        "wild": lambda: clock.sleep(noise.choice((1e-3, 9e-3))),
    }
    subjects = {name: ScriptedSubject(body=body) for name, body in bodies.items()}
    stopped = {
        pair: sample_block(subjects, clock, Schedule(budget=0.2), [pair])["wild"].stopped
        for pair in (("alike", "steady"), ("wild", "steady"))
    }
    assert stopped == {("alike", "steady"): "interval", ("wild", "steady"): "budget"}


def test_a_block_of_one_ends_with_its_latency():
    clock = ScriptedClock(0.001)
    samples = sample_block({"only": ScriptedSubject()}, clock, Schedule(), [])
    assert samples["only"].stopped == "interval"


def test_every_group_of_every_subject_begins_at_a_fresh_placement():
    clock = ScriptedClock(0.001)
    subjects = pair(clock)
    together = sample_together(subjects, clock, Schedule())
    for name, subject in subjects.items():
        assert subject.events.count("relocate") == len(together.groups[name])


def test_ratios_that_stay_wide_end_with_the_budget():
    noise = random.Random(0)
    clock = ScriptedClock(noise.choice((0.001, 0.009, 0.004)) for _ in range(100_000))
    together = sample_together(pair(clock, 0.0, 0.0), clock, Schedule(budget=0.3, interval=1e-6))
    assert together.stopped == "budget"
    spent = sum(sum(map(sum, groups)) for groups in together.groups.values())
    assert spent == pytest.approx(0.6, rel=0.3)


def test_a_clock_that_jumps_is_an_error():
    clock = ScriptedClock(chain(repeat(0.001, 30), repeat(math.nan)))
    with pytest.raises(WrongResult, match="the clock jumped"):
        sample_together(pair(clock), clock, Schedule())
