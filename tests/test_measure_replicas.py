"""Replicas: real processes with a stopwatch that is scripted."""

import os
from functools import partial

import pytest
from stopwatches import Scripted

from cnnperf.errors import CnnperfError
from cnnperf.measure.replicas import Replicas
from cnnperf.records.case import Case

CASE = Case("lenet5")


@pytest.fixture
def replicas():
    made = Replicas(2, partial(Scripted, os.getpid()))
    yield made
    made.close()


def test_every_case_is_timed_in_every_process(replicas):
    assert replicas.latencies(CASE) == [2.0, 2.0]
    assert replicas.latencies(Case("lenet5", batch=4)) == [5.0, 5.0]


def test_a_process_that_cannot_time_a_case_is_named_and_goes_on(replicas):
    with pytest.raises(CnnperfError, match=r"broken.*process 2 of 3 cannot time the case: ValueError: no such layer"):
        replicas.latencies(Case("broken"))
    assert replicas.latencies(CASE) == [2.0, 2.0]


def test_a_process_that_dies_is_told_with_its_status(replicas):
    with pytest.raises(CnnperfError, match=r"process 2 of 3 died \(exit status 7\).*fewer --cnnperf-processes"):
        replicas.latencies(Case("deadly"))


def test_after_closing_no_process_is_left(replicas):
    processes = list(replicas._processes)
    replicas.close()
    assert [process.is_alive() for process in processes] == [False, False]
