"""The gate on scripted workers: passes, looks, confirmation, control and time budget, without any process or clock."""

import json
import math
import random
from contextlib import contextmanager
from itertools import pairwise

import pytest

from cnnperf.errors import CnnperfError
from cnnperf.gate.gate import (
    BASE,
    CANDIDATE,
    CONTROL,
    PLACEMENTS_IN_PASS,
    Gate,
    Series,
    control_of,
    samples_of,
    verdict_of,
)
from cnnperf.gate.lockstep import CYCLES, ESTIMATORS, Lockstep, Placement, Turn
from cnnperf.gate.processes import CannotMeasure
from cnnperf.records.case import Case
from cnnperf.stats.sequential import LOOKS, Rule

SIDES = (BASE, CANDIDATE, CONTROL)
FIRST, SECOND = Case("lenet5"), Case("resnet18")


class ScriptedPeer:
    """Answer like a worker whose rounds take what the script says, with the noise of placements on top."""

    def __init__(self, side, script, generator, log):
        self._side, self._script, self._generator, self._log = side, script, generator, log
        self._architecture, self._factor = "", 1.0

    def ask(self, do, **arguments):
        self._log.append((self._side, do))
        return getattr(self, do)(**arguments)

    def build(self, axes, **_):
        self._architecture = axes["architecture"]
        if self._seconds() is None:
            raise CannotMeasure("UnsupportedCase", "no CUDA device")
        return {}

    def place(self):
        self._factor = math.exp(0.01 * self._generator.gauss(0, 1))
        return {}

    def time(self, rounds, warm):
        assert warm in (0, 1)
        noise = [math.exp(0.01 * abs(self._generator.gauss(0, 1))) for _ in range(rounds)]
        seconds = [self._seconds() * self._factor * one for one in noise]
        return {"wall": seconds, "cpu": [2 * one for one in seconds]}

    def _seconds(self):
        return self._script(self._side, self._architecture)


class Workers:
    """Start scripted workers and remember what was asked of them; time passes with every start."""

    def __init__(self, script, seed=0, seconds_a_start=1.0):
        self.script, self.generator, self.log, self.now = script, random.Random(seed), [], 0.0
        self.running = 0
        self._step = seconds_a_start

    @contextmanager
    def start(self, compiles):
        assert not compiles
        self.now += self._step
        self.running += 1
        try:
            yield {side: ScriptedPeer(side, self.script, self.generator, self.log) for side in SIDES}
        finally:
            self.running -= 1


def measure(script, cases=(FIRST,), deadline=1000.0, rule=None, **workers):
    ours = Workers(script, **workers)
    gate = Gate(ours.start, rule or Rule(cases=len(cases)), deadline, now=lambda: ours.now)
    return gate.measure(cases), ours


def slower_by(factor, side=CANDIDATE):
    return lambda one, _: 0.02 * (factor if one == side else 1.0)


def test_unchanged_code_is_the_same_after_two_passes_of_fresh_processes():
    (series,), workers = measure(slower_by(1.0))
    verdict = verdict_of(series)
    assert (verdict.verdict, verdict.found.count) == ("same", LOOKS[0])
    assert len(series.first) == LOOKS[0] / PLACEMENTS_IN_PASS
    assert workers.now == len(series.first)
    assert workers.running == 0


def test_a_slowdown_is_measured_again_before_it_is_called_one():
    (series,), _ = measure(slower_by(1.1))
    assert verdict_of(series).verdict == "slower"
    assert sum(map(len, series.second)) == sum(map(len, series.first)) == LOOKS[0]
    assert verdict_of(series).found.middle == pytest.approx(math.log(1.1), abs=0.01)


def test_an_alarm_that_goes_away_is_no_slowdown():
    calls = {"passes": 0}

    def script(side, _):
        return 0.02 * (1.1 if side == CANDIDATE and calls["passes"] <= 2 else 1.0)

    ours = Workers(script)

    @contextmanager
    def start(compiles):
        calls["passes"] += 1
        with ours.start(compiles) as peers:
            yield peers

    (series,) = Gate(start, Rule(), 1000.0, now=lambda: ours.now).measure([FIRST])
    assert verdict_of(series).verdict == "unsure"
    assert "did not confirm" in verdict_of(series).reason


def test_a_speedup_is_faster():
    (series,), _ = measure(slower_by(0.9))
    assert verdict_of(series).verdict == "faster"


def test_only_undecided_cases_are_measured_on():
    def script(side, architecture):
        return 0.02 * (1.1 if architecture == "resnet18" and side == CANDIDATE else 1.0)

    (easy, hard), workers = measure(script, (FIRST, SECOND))
    assert (verdict_of(easy).verdict, verdict_of(hard).verdict) == ("same", "slower")
    builds = sum(do == "build" for _, do in workers.log)
    assert builds == len(SIDES) * len([*easy.first, *easy.second, *hard.first, *hard.second])
    assert len(easy.first) < len([*hard.first, *hard.second])


def test_time_that_is_used_up_ends_in_unsure_with_what_was_seen():
    (series,), _ = measure(slower_by(1.0), deadline=1.5)
    verdict = verdict_of(series)
    assert verdict.verdict == "unsure"
    assert "time budget" in verdict.reason
    assert verdict.found.count == PLACEMENTS_IN_PASS


def test_an_alarm_without_time_to_confirm_it_is_unsure_and_says_so():
    (series,), _ = measure(slower_by(1.1), deadline=2.5)
    assert verdict_of(series).verdict == "unsure"
    assert "not confirmed yet" in verdict_of(series).reason


def test_no_time_at_all_measures_nothing():
    (series,), workers = measure(slower_by(1.0), deadline=0.0)
    assert verdict_of(series).found is None
    assert not workers.log


def test_a_case_that_a_side_cannot_run_is_not_comparable_and_the_others_go_on():
    def script(_, architecture):
        return None if architecture == "lenet5" else 0.02

    (impossible, possible), _ = measure(script, (FIRST, SECOND))
    assert (verdict_of(impossible).verdict, verdict_of(impossible).reason) == ("not-comparable", "base: no CUDA device")
    assert verdict_of(possible).verdict == "same"


def test_the_control_tells_when_the_base_differs_from_itself():
    series, _ = measure(slower_by(1.1, side=CONTROL))
    assert [one.case for one in control_of(series, Rule())] == [FIRST]
    series, _ = measure(slower_by(1.1))
    assert control_of(series, Rule()) == []


def test_all_samples_are_kept_as_plain_json():
    series, _ = measure(slower_by(1.1))
    (entry,) = json.loads(json.dumps(list(samples_of(series))))
    assert entry["axes"]["architecture"] == "lenet5"
    assert set(entry["first"][0][0]["wall"]) == set(SIDES)
    assert len(entry["second"]) == len(entry["first"])


def test_all_sides_take_turns_and_none_follows_itself():
    ours = Workers(slower_by(1.0))
    with ours.start(compiles=False) as peers:
        lockstep = Lockstep(peers)
        lockstep.build(FIRST.axes())
        ours.log.clear()
        (placement,) = lockstep.placements(1)
    turns = [side for side, do in ours.log if do == "time"]
    assert all(turns.count(side) == CYCLES for side in SIDES)
    assert all(one != other for one, other in pairwise(turns))
    assert all(len(placement.wall[side]) == CYCLES for side in SIDES)


@pytest.mark.parametrize(
    ("seconds", "turn"), [(0.0, Turn(100, 1)), (0.0004, Turn(25, 1)), (0.004, Turn(3, 1)), (0.5, Turn(1, 0))]
)
def test_a_turn_is_long_enough_to_outlast_the_change_of_processes(seconds, turn):
    assert Turn.of(seconds) == turn


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_finds_a_factor_of_two(estimator):
    placement = Placement({BASE: [1.0, 1.1, 1.2], CANDIDATE: [2.0, 2.2, 2.4]}, {BASE: [1.0], CANDIDATE: [3.0]})
    assert placement.log_ratio(CANDIDATE, BASE, estimator) == pytest.approx(math.log(2))
    assert placement.log_ratio(CANDIDATE, BASE, estimator, cpu=True) == pytest.approx(math.log(3))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(CnnperfError, match="above 0"):
        Placement({BASE: [1.0], CANDIDATE: [seconds]}, {}).log_ratio(CANDIDATE, BASE)


def crowded(generator, factor, wall_noise):
    """Give a placement in which a neighbour makes wall seconds unsteady and leaves CPU seconds alone."""
    slow = {side: factor if side == CANDIDATE else 1.0 for side in SIDES}
    wall = {side: [slow[side] * math.exp(abs(generator.gauss(0, wall_noise)))] for side in SIDES}
    cpu = {side: [slow[side] * math.exp(generator.gauss(0, 0.01))] for side in SIDES}
    return Placement(wall, cpu)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "same"), (1.1, "slower")])
def test_where_wall_seconds_are_unsteady_cpu_seconds_decide_and_the_reason_says_so(factor, verdict):
    generator, series, rule = random.Random(0), Series(FIRST), Rule()
    while series.decided is None:
        series.add([crowded(generator, factor, 0.3) for _ in range(PLACEMENTS_IN_PASS)], rule)
    assert series.by_cpu
    assert verdict_of(series).verdict == verdict
    assert "in CPU seconds" in verdict_of(series).reason
    assert control_of([series], rule) == []


def test_steady_wall_seconds_decide_and_on_a_gpu_always():
    generator = random.Random(0)
    for case, noise in ((FIRST, 0.01), (Case("lenet5", device="cuda"), 0.3)):
        series = Series(case)
        series.add([crowded(generator, 1.0, noise) for _ in range(PLACEMENTS_IN_PASS)], Rule())
        assert not series.by_cpu
