"""The efficiency of threads, from calls whose times are scripted."""

import pytest
import torch

from cnnperf.measure.sampler import Schedule
from cnnperf.measure.threads import OnThreads, thread_efficiencies
from cnnperf.testing import ScriptedClock, ScriptedSubject

SECONDS = {1: 0.012, 2: 0.008, 3: 0.006}


def subjects(clock):
    """Give a subject for each number of threads that takes as long as is scripted for the threads that are set."""
    return {threads: ScriptedSubject(lambda: clock.sleep(SECONDS[torch.get_num_threads()])) for threads in SECONDS}


def test_efficiency_is_the_share_of_what_as_many_single_threads_would_do():
    clock, before = ScriptedClock(1e-9), torch.get_num_threads()
    found = thread_efficiencies(subjects(clock), clock, Schedule(budget=0.1))
    assert {threads: value.value for threads, value in found.items()} == pytest.approx({2: 0.75, 3: 2 / 3}, rel=1e-4)
    assert torch.get_num_threads() == before


def test_threads_are_set_once_in_a_turn_and_before_its_first_round(monkeypatch):
    calls, set_number = [], torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda number: calls.append(number) or set_number(number))
    clock = ScriptedClock(1e-9)
    shared = ScriptedSubject(lambda: clock.sleep(1e-4))
    one, two = OnThreads(shared, 1), OnThreads(shared, 2)
    before = torch.get_num_threads()
    for subject in (two, one, two):
        for _ in range(3):
            subject.setup()
            assert torch.get_num_threads() == subject._threads
            subject.run()
    set_number(before)
    assert calls[-2:] == [1, 2]
    assert len(calls) <= 3


def test_the_process_has_its_own_threads_again_after_a_clock_that_jumped():
    clock, before = ScriptedClock(float("nan")), torch.get_num_threads()
    with pytest.raises(Exception, match="the clock jumped"):
        thread_efficiencies(subjects(clock), clock, Schedule(budget=0.1))
    assert torch.get_num_threads() == before
