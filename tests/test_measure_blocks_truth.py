"""Blocks on a scripted machine whose disturbances are known: what the verdicts say of them."""

import itertools
import random

import pytest

from cnnperf.measure.paired import sample_block
from cnnperf.measure.sampler import Schedule
from cnnperf.stats.paired import paired_ratio
from cnnperf.stats.simultaneous import ABOVE, BELOW, SAME, UNSURE, verdicts_on
from cnnperf.testing import ScriptedClock, ScriptedSubject

NAMES = "abcd"
ROUND = 0.004  # seconds
NOISE = 0.04
SEEDS = 40


def verdicts(seed, slowness, budget=1.0):
    """Return the verdicts on a/b, a/c and a/d of a block whose rounds a machine slows.

    Args:
        seed: Seed of the noise.
        slowness: Function of the name of the subject, the time since the start in seconds and the time since the first
            round of the subject, that returns by how much a round is longer.
        budget: Seconds for each subject.
    """
    noise = random.Random(seed)
    clock = ScriptedClock(itertools.repeat(1e-9))
    first: dict[str, float] = {}

    def body(name):
        def run():
            now = clock.now()
            spike = noise.expovariate(4) if noise.random() < 0.1 else 0.0
            factor = slowness(name, now, now - first.setdefault(name, now))
            clock.sleep(ROUND * factor * (1 + abs(noise.gauss(0, NOISE)) + spike))

        return run

    subjects = {name: ScriptedSubject(body=body(name)) for name in NAMES}
    asked = [("a", name) for name in NAMES[1:]]
    samples = sample_block(subjects, clock, Schedule(budget=budget, ratios=len(asked)), asked)
    groups = {name: each.wall() for name, each in samples.items()}
    return verdicts_on([paired_ratio(groups[one], groups[other]) for one, other in asked])


def steady(name, now, age):
    return 1.0


def drift(name, now, age):
    """Become 30 % slower in the four seconds of the block."""
    return 1 + 0.3 * min(1.0, now / 4)


def spikes(name, now, age):
    """Be twice as slow in every tenth second, and for a tenth of each second."""
    return 2.0 if int(now) % 10 == 0 or now % 1 < 0.1 else 1.0


def cold(name, now, age):
    """Let one subject be slower in its first second."""
    return 1.5 if name == "a" and age < 1 else 1.0


@pytest.mark.parametrize("slowness", [steady, drift, spikes, cold])
def test_equal_subjects_are_never_called_different(slowness):
    runs = [verdicts(seed, slowness) for seed in range(SEEDS)]
    false = sum(any(verdict in {ABOVE, BELOW} for verdict in run) for run in runs)
    assert false <= 1
    assert any(SAME in run for run in runs) or any(UNSURE in run for run in runs)


@pytest.mark.parametrize(("slowdown", "least"), [(1.10, 0.95), (1.05, 0.8)])
@pytest.mark.parametrize("slowness", [steady, drift, spikes])
def test_a_planted_slowdown_is_said(slowness, slowdown, least):
    def slower(name, now, age):
        return slowness(name, now, age) * (slowdown if name == "a" else 1.0)

    runs = [verdicts(seed, slower) for seed in range(SEEDS)]
    assert sum(run == [ABOVE] * 3 for run in runs) / SEEDS >= least


def test_a_difference_of_a_thousandth_is_the_same():
    runs = [verdicts(seed, lambda name, now, age: 1.001 if name == "a" else 1.0, budget=20.0) for seed in range(5)]
    assert all(run == [SAME] * 3 for run in runs)
