"""Subjects side by side, on a scripted clock."""

import math
from collections import Counter
from itertools import chain, pairwise, repeat

import pytest

from cnnperf.errors import WrongResult
from cnnperf.measure.paired import draw_order, sample_together
from cnnperf.measure.sampler import Schedule
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


def test_the_rounds_are_taken_in_the_order_that_was_drawn():
    clock, order = ScriptedClock(0.01), []
    subjects = {name: ScriptedSubject(body=lambda name=name: order.append(name)) for name in "abc"}
    together = sample_together(subjects, clock, Schedule(budget=0.4, least_groups=1, settled_groups=1))
    rounds = len(together.groups["a"][0])
    drawn = draw_order(["a", "b", "c"], rounds, seed=1)
    assert "".join(order).startswith("aaabbbccc" + "abc" + "".join(drawn))


def test_every_group_of_every_subject_begins_at_a_fresh_placement():
    clock = ScriptedClock(0.001)
    subjects = pair(clock)
    together = sample_together(subjects, clock, Schedule())
    for name, subject in subjects.items():
        assert subject.events.count("relocate") == len(together.groups[name])


def test_ratios_that_stay_wide_end_with_the_budget():
    clock = ScriptedClock(iter([0.001, 0.009, 0.004] * 100_000))
    together = sample_together(pair(clock, 0.0, 0.0), clock, Schedule(budget=0.3, interval=1e-6))
    assert together.stopped == "budget"
    spent = sum(sum(map(sum, groups)) for groups in together.groups.values())
    assert spent == pytest.approx(0.6, rel=0.3)


def test_a_clock_that_jumps_is_an_error():
    clock = ScriptedClock(chain(repeat(0.001, 30), repeat(math.nan)))
    with pytest.raises(WrongResult, match="the clock jumped"):
        sample_together(pair(clock), clock, Schedule())
