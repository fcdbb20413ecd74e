"""Shards of a suite: every case on exactly one, about equally long, the same whoever asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnperf.errors import OptionError
from cnnperf.records.case import Case
from cnnperf.records.shards import Shard, assign, digest, parse_shard

NAMES = st.lists(st.integers(0, 10_000), min_size=1, max_size=60, unique=True)


def cases_of(numbers):
    return [Case(f"network{number}", engine="compile" if number % 2 else "eager") for number in numbers]


def alone(cases):
    return [[case] for case in cases]


def test_the_cases_of_a_block_are_in_one_shard():
    cases = cases_of(range(12))
    blocks = [cases[:5], cases[5:6], cases[6:]]
    shards = assign(blocks, dict.fromkeys(cases, 1.0), 2)
    assert [{shards[case] for case in block} for block in blocks] == [{2}, {2}, {1}]


@given(NAMES, st.integers(1, 8), st.data())
def test_the_union_is_the_suite_and_the_intersection_is_empty(numbers, count, data):
    cases = cases_of(numbers)
    seconds = {case: data.draw(st.floats(0.01, 100)) for case in cases}
    shards = assign(alone(cases), seconds, count)
    assert set(shards) == set(cases)
    assert set(shards.values()) <= set(range(1, count + 1))
    assert shards == assign(reversed(alone(cases)), seconds, count)
    loads = [sum(seconds[case] for case in cases if shards[case] == number) for number in range(1, count + 1)]
    assert max(loads) <= sum(seconds.values()) / count + max(seconds.values())


def test_recorded_durations_are_balanced_within_a_fifth():
    cases = cases_of(range(42))
    seconds = {case: 2.0 + 9.0 * (case.engine == "compile") + number % 5 for number, case in enumerate(cases)}
    shards = assign(alone(cases), seconds, 5)
    loads = [sum(seconds[case] for case in cases if shards[case] == number) for number in range(1, 6)]
    assert max(loads) < 1.2 * min(loads)


def test_a_case_that_nobody_timed_counts_as_others_of_its_engine():
    eager, compiled = Case("a"), Case("b", engine="compile")
    seconds = {eager: 1.0, compiled: 50.0}
    new = [Case("c", engine="compile"), Case("d")]
    shards = assign(alone([eager, compiled, *new]), seconds, 2)
    assert shards[compiled] != shards[new[0]]


def test_without_durations_shards_have_equally_many_cases():
    shards = assign(alone(cases_of(range(10))), {}, 4)
    assert sorted(list(shards.values()).count(number) for number in (1, 2, 3, 4)) == [2, 2, 3, 3]


def test_a_digest_knows_cases_and_no_order():
    cases = cases_of(range(5))
    assert digest(cases) == digest(reversed(cases))
    assert digest(cases) != digest(cases[:-1])


def test_a_shard_is_read_as_it_is_typed():
    assert parse_shard("2/5") == Shard(2, 5)
    assert str(Shard(2, 5)) == "2/5"


@pytest.mark.parametrize("text", ["6/5", "0/5", "1/0", "-1/5", "2", "2/5/7", "a/b", "", "1/1001", "1.0/2"])
def test_shards_that_cannot_be_are_refused(text):
    with pytest.raises(OptionError, match="--cnnperf-shard takes the number of a shard and how many there are"):
        parse_shard(text)
