"""Blocks that are sampled in turn, on a scripted clock."""

import itertools
import random
from contextlib import nullcontext

import pytest

from cnnperf.errors import OutOfMemory
from cnnperf.measure.cycles import Instruments
from cnnperf.measure.paired import warm_cycles
from cnnperf.measure.sampler import INTERRUPTED, Schedule
from cnnperf.measure.visits import VISITS, VisitedBlock, sample_in_turn
from cnnperf.stats.paired import paired_ratio
from cnnperf.testing import ScriptedClock, ScriptedSubject

ROUND = 0.02  # seconds
WIDE = Schedule(budget=2.0, interval=0.0)


class Machine:
    """A machine that runs blocks of two subjects, `a` and `b`, and notes when."""

    def __init__(self, slowness=lambda now: 1.0, noise=0.0):
        self.clock, self.slowness, self.visits = ScriptedClock(itertools.repeat(1e-9)), slowness, []
        self._noise, self._amount = random.Random(0), noise

    def block(self, name, schedule=WIDE, seconds=ROUND, after_turn=lambda _: None, settings=nullcontext):
        """Return a warm block whose subject `a` the machine slows."""

        def body(subject):
            def run():
                factor = self.slowness(self.clock.now()) if subject == "a" else 1.0
                self.clock.sleep(seconds * factor * (1 + abs(self._noise.gauss(0, self._amount))))

            return run

        def note(subject):
            self.visits.append(name)
            after_turn(subject)

        subjects = {subject: ScriptedSubject(body=body(subject)) for subject in "ab"}
        cycles = warm_cycles(subjects, self.clock, schedule, [("a", "b")], Instruments(after_turn=note))
        return VisitedBlock(cycles, settings)


def ratio(block):
    samples = block.cycles.samples
    return paired_ratio(samples["a"].wall(), samples["b"].wall())


def spent(block):
    return sum(sum(map(sum, each.wall())) for each in block.cycles.samples.values())


def nobody(_):
    pass


def test_every_block_is_visited_again_and_again():
    machine = Machine(noise=0.05)
    blocks = [machine.block(name) for name in ("one", "other")]
    del machine.visits[:]
    sample_in_turn(blocks, nobody)
    assert [name for name, _ in itertools.groupby(machine.visits)] == ["one", "other"] * VISITS
    assert [spent(block) for block in blocks] == pytest.approx([4.0, 4.0], rel=0.05)
    assert {each.stopped for block in blocks for each in block.cycles.samples.values()} == {"budget"}


def test_a_ratio_that_depends_on_the_state_of_the_machine_is_the_same_in_every_block():
    machine = Machine(lambda now: 1.2 if now % 4 >= 2 else 1.0, noise=0.02)
    blocks = [machine.block(name) for name in ("one", "other")]
    sample_in_turn(blocks, nobody)
    assert ratio(blocks[0]).value == pytest.approx(ratio(blocks[1]).value, rel=0.03)
    for block in blocks:
        assert 1.05 < ratio(block).value < 1.15
        assert ratio(block).high / ratio(block).low > 1.04, "the interval holds the spread of the states"


def test_a_change_of_the_machine_in_the_middle_of_the_run_is_no_warm_up():
    machine = Machine(lambda now: 1.2 if now >= 4.4 else 1.0, noise=0.02)
    blocks = [machine.block(name) for name in ("one", "other")]
    sample_in_turn(blocks, nobody)
    for block in blocks:
        assert {each.dropped for each in block.cycles.samples.values()} == {0.0}


def test_a_subject_that_is_cold_in_its_first_visits_is_warmed_up_by_them():
    machine = Machine(lambda now: 1.5 if now < 1.5 else 1.0, noise=0.02)
    blocks = [machine.block(name) for name in ("one", "other")]
    sample_in_turn(blocks, nobody)
    for block in blocks:
        assert block.cycles.samples["a"].dropped > 0
        assert ratio(block).value == pytest.approx(1.0, rel=0.02)


def test_a_slow_block_has_a_cycle_in_some_of_the_visits():
    machine = Machine(noise=0.05)
    blocks = [machine.block("fast"), machine.block("slow", seconds=0.5)]
    del machine.visits[:]
    sample_in_turn(blocks, nobody)
    assert [name for name, _ in itertools.groupby(machine.visits)].count("slow") == 4
    assert len(blocks[1].cycles.samples["a"].groups) == 4


def test_what_a_block_leaves_over_goes_to_the_others():
    machine = Machine(noise=0.05)
    calm = machine.block("calm", Schedule(budget=2.0, interval=0.5))
    wide = machine.block("wide")
    sample_in_turn([calm, wide], nobody)
    assert {each.stopped for each in calm.cycles.samples.values()} == {"interval"}
    assert spent(calm) == pytest.approx(2.0, rel=0.2), "half of its budget"
    assert spent(calm) + spent(wide) == pytest.approx(8.0, rel=0.05)


def test_an_error_in_a_block_takes_no_other_with_it():
    def fail(_):
        if len(machine.visits) > 40:
            raise OutOfMemory("none is left")

    machine = Machine(noise=0.05)
    blocks = [machine.block("failing", after_turn=fail), machine.block("other")]
    sample_in_turn(blocks, nobody)
    assert isinstance(blocks[0].error, OutOfMemory)
    assert spent(blocks[1]) > 4.0, "and the other has its time"


def test_the_settings_of_a_block_are_in_force_during_its_visits():
    entered = []

    def settings(name):
        entered.append(name)
        return nullcontext()

    machine = Machine()
    blocks = [machine.block(name, settings=lambda name=name: settings(name)) for name in ("one", "other")]
    sample_in_turn(blocks, nobody)
    assert entered == ["one", "other"] * VISITS


def interrupted_after(turns, schedule=WIDE):
    """Return two blocks of which the machine has run so many turns after the warm-up when the user interrupts."""

    def interrupt(_):
        if len(machine.visits) == warm + turns:
            raise KeyboardInterrupt

    machine, warm = Machine(noise=0.05), -turns
    blocks = [machine.block("one", schedule, after_turn=interrupt), machine.block("other", after_turn=interrupt)]
    warm = len(machine.visits)
    assert sample_in_turn(blocks, nobody)
    return blocks


def reasons(block):
    return {each.stopped for each in block.cycles.samples.values()}


def test_an_interrupt_keeps_the_whole_cycles_of_every_block():
    blocks = interrupted_after(61)
    counts = [{len(each.groups) for each in block.cycles.samples.values()} for block in blocks]
    assert [len(count) for count in counts] == [1, 1]
    assert sum(map(max, counts)) == 30
    assert [reasons(block) for block in blocks] == [{INTERRUPTED}, {INTERRUPTED}]


def test_a_block_that_was_finished_before_an_interrupt_stays_finished():
    one, other = interrupted_after(260, Schedule(budget=2.0, interval=0.5))
    assert (reasons(one), reasons(other)) == ({"interval"}, {INTERRUPTED})


def test_an_interrupt_leaves_out_the_blocks_without_two_whole_cycles():
    assert [block.empty for block in interrupted_after(8)] == [False, True]
    assert [block.empty for block in interrupted_after(3)] == [True, True]


def test_a_subject_that_raises_an_error_of_its_own_takes_no_other_with_it():
    def fail(subject):
        if subject == "a" and len(machine.visits) > 40:
            raise ValueError("no such layer")

    machine = Machine(noise=0.05)
    blocks = [machine.block("failing", after_turn=fail), machine.block("other")]
    sample_in_turn(blocks, nobody)
    failing, other = (block.cycles for block in blocks)
    assert list(failing.samples) == ["b"]
    assert str(failing.failed["a"]).startswith("ValueError: no such layer (test_measure_visits.py:")
    assert failing.failed["a"].trace.startswith("Traceback")
    assert failing.samples["b"].stopped == "budget", "and the other subject is sampled to its end"
    assert set(other.samples) == {"a", "b"}


def test_a_block_whose_subjects_all_raise_errors_has_no_samples():
    def fail(_):
        if len(machine.visits) > 4:
            raise ValueError("no such layer")

    machine = Machine()
    blocks = [machine.block("failing", after_turn=fail), machine.block("other")]
    sample_in_turn(blocks, nobody)
    assert blocks[0].cycles.samples == {}
    assert set(blocks[0].cycles.failed) == {"a", "b"}
    assert spent(blocks[1]) > 0


def test_the_progress_is_that_of_all_blocks():
    states = []
    machine = Machine(noise=0.05)
    sample_in_turn([machine.block("one"), machine.block("other")], states.append)
    assert [(state.visit, state.visits) for state in states[::2]] == [(visit, VISITS) for visit in range(1, VISITS + 1)]
    assert states[-1].spent == pytest.approx(states[-1].budget, rel=0.05)
    assert states[-1].widest < 0.1
