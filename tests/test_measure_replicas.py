"""Replicas: real processes with a laboratory that is scripted."""

import math
import os
from functools import partial

import pytest
from stopwatches import Scripted

from cnnperf.measure.block_task import BlockTask
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.replicas import Repetition, Replicas, with_repetitions
from cnnperf.measure.sampler import INTERRUPTED, Schedule
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.block_runner import BlockRunner
from cnnperf.suite.blocks import Block
from cnnperf.suite.options import Options

pytestmark = pytest.mark.slow

EAGER = Case("lenet5", batch=1)
OTHER = Case("lenet5_avg", batch=3)


def task(*cases, asked=()):
    return BlockTask("block", cases, asked, Schedule())


@pytest.fixture
def replicas():
    made = Replicas(2, partial(Scripted, os.getpid()))
    yield made
    made.close()


def test_a_block_is_measured_in_every_process(replicas):
    found = replicas.repeat(task(EAGER, OTHER, asked=((OTHER, EAGER),)))
    assert [repetition.latencies for repetition in found] == [{EAGER: 2.0, OTHER: 4.0}] * 2
    assert [list(repetition.ratios) for repetition in found] == [[(OTHER, EAGER)]] * 2
    assert found[0].ratios[OTHER, EAGER].value == pytest.approx(2.0, rel=1e-2)
    assert [repetition.errors for repetition in found] == [{}, {}]


def test_a_case_that_a_process_cannot_time_takes_no_other_with_it(replicas):
    wrong = Case("wrong")
    found = replicas.repeat(task(EAGER, wrong))
    assert found[0].errors == {
        wrong: f"{wrong.label()}: process 2 of 3 cannot time the case: WrongResult: output is wrong"
    }
    assert found[1].latencies == {EAGER: 2.0}


def test_a_process_that_cannot_measure_a_block_is_named_and_goes_on(replicas):
    found = replicas.repeat(task(Case("raising"), EAGER))
    assert "process 3 of 3 cannot time the case: ValueError: no such layer" in found[1].errors[EAGER]
    assert replicas.repeat(task(EAGER))[0].latencies == {EAGER: 2.0}


def test_a_process_that_dies_is_told_with_its_status(replicas):
    found = replicas.repeat(task(Case("deadly"), EAGER))
    for error in found[0].errors.values():
        assert "process 2 of 3 died (exit status 7)" in error
        assert "fewer --cnnperf-processes" in error
    assert set(found[0].errors) == {Case("deadly"), EAGER}


def test_after_closing_no_process_is_left(replicas):
    processes = list(replicas._processes)
    replicas.close()
    assert [process.is_alive() for process in processes] == [False, False]


def measured(*cases, asked=((OTHER, EAGER),)):
    return Scripted(os.getpid()).measure_block("block", cases, asked)


def repetition(level=3.0, **fields):
    ratio = Value(level, level * 0.999, level * 1.001, 3)
    return Repetition(latencies={EAGER: 2.0, OTHER: 4.0}, **{"ratios": {(OTHER, EAGER): ratio}, **fields})


def test_the_record_of_a_case_has_the_median_of_each_process_and_its_ratio_over_all():
    result = with_repetitions(measured(EAGER, OTHER)[OTHER], [repetition(3.1), repetition(2.9)])
    record = result.record("test")
    assert record.processes == (3.0, 4.0, 4.0)
    (over,) = record.ratios
    assert over.processes == 3
    assert over.ratio.value == pytest.approx((3.0 * 3.1 * 2.9) ** (1 / 3), rel=1e-3)
    spread = math.log(over.ratio.high / over.ratio.low) / 2
    assert spread == pytest.approx(4.303 * math.log(3.1 / 2.9) / 2 / math.sqrt(3), rel=0.01)  # t of 2 degrees, 3 data
    assert over.ratio.rounds == 9


def test_a_ratio_that_one_process_alone_has_paired_is_that_of_this_process():
    alone = measured(EAGER, OTHER)[OTHER]
    result = with_repetitions(alone, [repetition(ratios={}), repetition(ratios={})])
    assert result.ratios == alone.ratios
    assert result.ratios[0].processes == 0


def test_a_case_that_one_process_could_not_time_has_its_error():
    result = with_repetitions(measured(EAGER)[EAGER], [repetition(), Repetition(errors={EAGER: "it died"})])
    assert str(result) == "it died"


class Scripts:
    """Further processes that answer from a script, and note what they are asked."""

    def __init__(self, *repetitions):
        self.repetitions, self.tasks = repetitions, []

    def repeat(self, task):
        self.tasks.append(task)
        if not self.repetitions:
            raise KeyboardInterrupt
        return list(self.repetitions)


class Here(Scripted):
    """The laboratory of the first process."""

    schedule = Schedule()

    def __init__(self):
        super().__init__(os.getpid())


def runner(*cases, scripts):
    found = BlockRunner(Here(), replicas=scripts)
    found.add(Block("block", cases, dict.fromkeys(cases, "test")))
    return found


COMPILED = EAGER.replace(engine="compile", batch=1)


def test_the_processes_repeat_a_block_once_with_its_pairs_and_its_schedule():
    scripts = Scripts(Repetition(latencies={EAGER: 2.0, COMPILED: 2.0}))
    found = runner(EAGER, COMPILED, scripts=scripts)
    assert [found.result(case).processes for case in (EAGER, COMPILED)] == [(1.0, 2.0)] * 2
    (asked,) = scripts.tasks
    assert (asked.name, asked.cases) == ("block", (EAGER, COMPILED))
    assert asked.asked == ((EAGER, COMPILED),)
    assert asked.schedule.budget == Schedule().budget


def test_what_the_first_process_could_not_measure_is_asked_of_no_other():
    scripts = Scripts(Repetition(latencies={EAGER: 2.0}))
    found = runner(EAGER, Case("wrong"), scripts=scripts)
    assert found.result(EAGER).processes == (1.0, 2.0)
    assert scripts.tasks[0].cases == (EAGER,)


def test_an_interrupt_of_the_further_processes_loses_nothing_of_the_first():
    run = BenchRun(Options(), 2, Laboratory())
    run.runner = runner(EAGER, COMPILED, scripts=Scripts())
    kept = []
    run.keep = lambda measured, test: kept.append((measured.case, measured.samples.stopped, test))
    with pytest.raises(KeyboardInterrupt):
        run.measure(EAGER)
    assert kept == [(EAGER, INTERRUPTED, "test"), (COMPILED, INTERRUPTED, "test")]


def test_an_interrupt_of_the_further_processes_ends_those_of_the_later_blocks_too():
    scripts = Scripts()
    found = runner(EAGER, COMPILED, scripts=scripts)
    later = EAGER.replace(phase="train")
    found.add(Block("later", (later,), {later: "later test"}))
    with pytest.raises(KeyboardInterrupt):
        found.result(EAGER)
    assert len(scripts.tasks) == 1
    assert [(result.case, test) for result, test in found.unreported()] == [
        (EAGER, "test"),
        (COMPILED, "test"),
        (later, "later test"),
    ]
