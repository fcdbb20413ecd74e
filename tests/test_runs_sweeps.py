"""Knee, crossover and efficiency on made numbers whose truth is known."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.records.run import CaseRecord
from cnnperf.runs.sweeps import crossover_of, efficiencies, gains, knee_of, lines_of, rivals_of, sweep_values
from cnnperf.stats.ratio import ratio

BATCHES = (1, 2, 4, 8, 16)


def points(*values, half=0.01, over=BATCHES):
    return [(at, Value(value, value * (1 - half), value * (1 + half))) for at, value in zip(over, values, strict=False)]


def crossover(base, challenger):
    """Return the crossover of two sides with these latencies."""
    other = dict(challenger)
    return crossover_of([(batch, ratio(latency, other[batch])) for batch, latency in base if batch in other])


def cases(*lines):
    """Return records of lines, each a case and what its images/s are at each batch."""
    found = {}
    for case, rates in lines:
        for batch, rate in rates.items():
            one = Case(**{**case.axes(), "batch": batch})
            seconds = batch / rate
            values = {
                "latency": Value(seconds, seconds * 0.99, seconds * 1.01),
                "throughput": Value(rate, rate * 0.99, rate * 1.01),
            }
            found[one] = CaseRecord(one, values)
    return found


def over_threads(rates):
    """Return a line over the threads with these images/s."""
    found = {}
    for threads, rate in points(*rates.values(), over=tuple(rates)):
        one = Case("lenet5", threads=threads)
        found[one] = CaseRecord(one, {"throughput": rate})
    (line,) = lines_of(found, "threads")
    return line


def test_a_single_dip_is_no_knee():
    assert knee_of(points(100, 101, 190, 360, 700)) is None
    assert knee_of(points(100, 101)).batch == 1  # nothing tells that it is one


def test_the_knee_is_the_first_batch_after_which_doubling_surely_brings_little():
    knee = knee_of(points(100, 190, 340, 342, 345))
    assert (knee.batch, knee.sure) == (4, True)
    assert knee.gain.value == pytest.approx(342 / 340 - 1)
    assert knee.gain.high < 0.05


def test_a_gain_whose_interval_reaches_over_the_step_is_no_knee_by_itself():
    assert knee_of(points(100, 190, 196, 300, half=0.03)) is None


def test_two_doublings_below_the_step_by_their_medians_are_a_knee_that_is_not_sure():
    knee = knee_of(points(100, 190, 196, 199, half=0.03))
    assert (knee.batch, knee.sure) == (2, False)


def test_rates_that_only_grow_have_no_knee():
    assert knee_of(points(100, 190, 350, 640, 1100)) is None


def test_a_larger_step_finds_the_knee_earlier():
    rates = points(100, 120, 132, 133, 133)
    assert [knee_of(rates, step).batch for step in (0.30, 0.15, 0.05)] == [1, 2, 4]


def test_a_rate_that_falls_is_a_knee():
    assert knee_of(points(100, 80)).batch == 1


def test_a_gain_over_two_doublings_is_told_for_one():
    ((batch, gain),) = gains([(1, Value(100.0)), (4, Value(400.0))])
    assert (batch, gain.value) == (1, pytest.approx(1.0))


def test_a_planted_crossover_is_found_between_its_batches_with_its_interval():
    found = crossover(points(1, 2, 4, 8, 16), points(3, 3, 3, 3, 3))
    assert (found.answer, found.first, found.earlier) == ("from", 4, ())
    assert found.batch.value == pytest.approx(3.0)
    assert 2 < found.batch.low < 3 < found.batch.high < 4
    assert found.batch.high == pytest.approx(3 * math.exp(math.hypot(math.log(1.01), math.log(1 / 0.99))))


def test_wider_latencies_give_a_wider_crossover():
    narrow, wide = (
        crossover(points(1, 2, 4, 8, 16, half=half), points(3, 3, 3, 3, 3, half=half)).batch for half in (0.01, 0.2)
    )
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_batch_that_is_unsure_widens_the_interval_over_it():
    found = crossover(points(1, 1, 1, 1), points(1.5, 1.005, 0.5, 0.25))
    assert found.first == 4
    assert found.batch.low < 2 < found.batch.high


def test_a_side_that_is_faster_everywhere_always_is():
    found = crossover(points(2, 4, 8), points(1, 2, 4))
    assert (found.answer, found.batch.value, found.first) == ("always", 1.0, 1)


def test_a_side_that_is_slower_at_the_largest_batch_never_is():
    found = crossover(points(1, 2, 4), points(2, 4, 8))
    assert (found.answer, found.first, found.most) == ("never", None, 4)
    assert found.batch is None


def test_a_difference_that_is_not_sure_at_the_largest_batch_is_unsure():
    assert crossover(points(1, 2, 4), points(2, 3, 4.01)).answer == "unsure"


def test_of_several_crossings_the_last_counts_and_the_others_are_told():
    found = crossover(points(1, 1, 1, 1, 1), points(0.5, 2, 0.5, 2, 0.5))
    assert (found.answer, found.first, found.earlier) == ("from", 16, (1, 4))
    assert 8 < found.batch.low < found.batch.high < 16


def test_without_a_common_batch_nothing_is_sure():
    assert crossover(points(1), points(1, over=(2,))).answer == "unsure"


def test_without_intervals_nothing_is_sure():
    assert crossover([(1, Value(2.0)), (2, Value(4.0))], [(1, Value(1.0)), (2, Value(2.0))]).answer == "unsure"


def test_before_a_crossing_that_was_only_unsure_the_interval_begins_at_the_smallest_batch():
    found = crossover(points(1, 1, 1), points(0.995, 0.5, 0.5))
    assert (found.answer, found.first, found.batch.low) == ("from", 2, 1.0)


latencies = st.lists(st.floats(1e-4, 10), min_size=5, max_size=5)


@settings(deadline=None)
@given(latencies, latencies, st.floats(0.001, 0.3))
def test_a_crossover_lies_in_its_interval_and_the_interval_in_the_batches(base, other, half):
    found = crossover(points(*base, half=half), points(*other, half=half))
    if found.answer == "from":
        assert 1 <= found.batch.low <= found.batch.value <= found.batch.high <= found.first


def test_efficiency_is_the_share_of_what_as_many_single_threads_would_do():
    found = dict(efficiencies(over_threads({1: 100, 2: 180, 4: 320})))
    assert found[1] == Value(1.0)
    assert found[2].value == pytest.approx(0.9)
    assert found[4].value == pytest.approx(0.8)
    assert found[4].low < 0.8 < found[4].high


def test_without_one_thread_there_is_no_efficiency():
    assert efficiencies(over_threads({2: 100, 4: 180})) == []


def test_efficiency_is_that_of_rounds_side_by_side_where_there_is_one():
    line = over_threads({1: 100, 2: 180, 4: 320})
    paired = Value(0.8, 0.7, 0.9)
    line.records[2].values["thread_efficiency"] = paired
    found = dict(efficiencies(line))
    assert found[2] == paired
    assert found[4].value == pytest.approx(0.8)


def test_lines_join_cases_that_differ_in_the_axis_alone():
    eager, compiled = Case("lenet5"), Case("lenet5", engine="compile")
    found = lines_of(cases((eager, {4: 1, 1: 1, 2: 1}), (compiled, {1: 1, 2: 1})), "batch")
    assert [(line.case.engine, list(line.records)) for line in found] == [("eager", [1, 2, 4])]


def test_a_number_of_threads_that_the_environment_gave_is_no_point_of_a_line():
    found = {case: CaseRecord(case) for case in (Case("lenet5", threads=n) for n in (0, 1, 2))}
    (line,) = lines_of(found, "threads")
    assert list(line.records) == [1, 2]


def test_cuda_is_the_rival_of_the_cpu_and_compiled_of_eager():
    rates = dict.fromkeys((1, 2, 4), 10)
    lines = [
        (Case("lenet5", device=device, engine=engine), rates)
        for device in ("cpu", "cuda")
        for engine in ("eager", "compile")
    ]
    found = [(one.metric, one.challenger.case.label(), one.base.case.label()) for one in rivals_of(cases(*lines))]
    assert found == [
        ("engine_crossover", "lenet5 forward cpu compile batch 1", "lenet5 forward cpu eager batch 1"),
        ("device_crossover", "lenet5 forward cuda eager batch 1", "lenet5 forward cpu eager batch 1"),
        ("engine_crossover", "lenet5 forward cuda compile batch 1", "lenet5 forward cuda eager batch 1"),
        ("device_crossover", "lenet5 forward cuda compile batch 1", "lenet5 forward cpu compile batch 1"),
    ]


def test_knee_and_crossover_belong_to_cases():
    eager, compiled = Case("lenet5"), Case("lenet5", engine="compile")
    added = sweep_values(cases((eager, {1: 100, 2: 150, 4: 151}), (compiled, {1: 50, 2: 200, 4: 400})))
    at_two = Case("lenet5", engine="compile", batch=2)
    assert added[Case("lenet5", batch=2)] == {"knee_batch": Value(2.0)}
    assert set(added) == {Case("lenet5", batch=2), at_two}
    assert 1 < added[at_two]["engine_crossover"].value < 2


def test_the_cases_of_a_usual_run_gain_nothing():
    assert sweep_values(cases((Case("lenet5"), {1: 100, 128: 150}))) == {}
