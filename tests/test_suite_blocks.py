"""Blocks: which cases are measured side by side, and what happens to a member that cannot be."""

import random

import pytest
import torch

from cnnperf.errors import Interrupted, OutOfMemory, UnsupportedCase, WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.block_task import BlockTask
from cnnperf.measure.clock import Reading
from cnnperf.measure.measured import Measured
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.memory_forecast import Process
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case
from cnnperf.runs.forms import compared_cases
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.block_runner import BlockRunner
from cnnperf.suite.blocks import blocks_of
from cnnperf.suite.options import Options
from cnnperf.testing import ScriptedClock

MAX, AVERAGE = (Case(name, batch=2) for name in ("lenet5", "lenet5_avg"))
PAIR = [MAX, AVERAGE]


def laboratory(make_workload=None):
    return Laboratory(Schedule(budget=0.0), make_clock=lambda _: ScriptedClock(0.001), make_workload=make_workload)


def measured(cases, make_workload=None):
    return laboratory(make_workload).measure_block("block", cases, compared_cases(cases))


def test_a_block_has_the_cases_of_one_benchmark_that_differ_in_architecture_engine_and_device_alone():
    compiled, training = MAX.replace(engine="compile"), MAX.replace(phase="train")
    on_cuda = MAX.replace(device="cuda")
    tests = [("a.py::test", case) for case in (MAX, compiled, AVERAGE, training, on_cuda)]
    blocks = blocks_of([*tests, ("b.py::test", MAX.replace(batch=3))])
    assert blocks[MAX].cases == (MAX, compiled, AVERAGE, on_cuda)
    assert blocks[MAX] is blocks[AVERAGE]
    assert blocks[training].cases == (training,)
    assert len({block.name for block in blocks.values()}) == 3


def test_parts_have_a_block_on_each_device_because_they_are_not_compared_between_devices():
    part = Case("part:se", width=64)
    blocks = blocks_of([("a.py::test", part), ("a.py::test", part.replace(device="cuda"))])
    assert {block.cases for block in blocks.values()} == {(part,), (part.replace(device="cuda"),)}


def test_replays_have_another_clock_and_a_block_of_their_own():
    part = Case("part:se", device="cuda", width=64)
    tests = [("a.py::test", part.replace(engine=engine)) for engine in ("eager", "replay", "compile", "compile_replay")]
    blocks = blocks_of(tests)
    engines = [[case.engine for case in block.cases] for block in dict.fromkeys(blocks.values())]
    assert engines == [["eager", "compile"], ["replay", "compile_replay"]]


def test_the_members_of_a_block_have_as_many_cycles_and_their_ratio():
    found = measured(PAIR)
    records = [found[case].record("test") for case in PAIR]
    assert {record.block for record in records} == {"block"}
    assert len({len(record.groups) for record in records}) == 1
    assert records[0].over(records[1]).value == pytest.approx(1.0)
    assert records[1].over(records[0]) is None


def test_less_precise_seconds_are_a_finding_of_a_case_alone_and_not_of_a_member_of_a_block():
    def noisy(_):
        generator = random.Random(0)
        return ScriptedClock(generator.uniform(0.016, 0.024) for _ in range(10**6))

    found = Laboratory(Schedule(budget=0.5), make_clock=noisy).measure_block("block", PAIR, compared_cases(PAIR))
    alone = Laboratory(Schedule(budget=0.5), make_clock=noisy).measure(MAX)
    assert 0.05 < found[MAX].values["latency"].half_width < 0.1
    assert 0.05 < alone.values["latency"].half_width < 0.1
    assert [finding.kind for finding in found[MAX].findings] == []
    assert [finding.kind for finding in alone.findings] == ["spread"]


def test_a_case_alone_has_no_block():
    found = measured([MAX])
    assert found[MAX].block == ""
    assert found[MAX].duration > 0


class Wrong(Workload):
    """Workload whose network gives another result than the reference."""

    def __init__(self, case, **options):
        super().__init__(case, **options)
        self.network = lambda images: self.model(images) * 3


def test_a_member_whose_results_are_wrong_takes_no_other_with_it():
    found = measured(PAIR, lambda case: (Wrong if case == MAX else Workload)(case))
    assert isinstance(found[MAX], WrongResult)
    assert found[AVERAGE].values["latency"].value == pytest.approx(0.001)
    assert found[AVERAGE].block == ""


def test_a_member_that_cannot_run_here_takes_no_other_with_it():
    there_is_none = MAX.replace(engine="cudagraphs")
    found = measured([there_is_none, *PAIR])
    assert isinstance(found[there_is_none], UnsupportedCase)
    assert found[MAX].block == "block"


def test_a_member_for_which_there_is_memory_only_alone_is_measured_alone():
    tried = []

    def build(case):
        tried.append(case)
        if case == AVERAGE and tried.count(AVERAGE) == 1:
            raise torch.OutOfMemoryError("none is left")
        return Workload(case)

    found = measured(PAIR, build)
    assert found[MAX].values["latency"].value == found[AVERAGE].values["latency"].value == pytest.approx(0.001)
    assert found[AVERAGE].block == ""


ELSEWHERE = MAX.replace(device="cpu:0")
"""A case of a second device, which PyTorch takes for the CPU too."""


def measured_on_two_devices(cases, asked, build=Workload):
    seconds = {"cpu": 0.01, "cpu:0": 0.001}
    clocks = {device: ScriptedClock(each) for device, each in seconds.items()}
    schedule = Schedule(budget=0.0)
    lab = Laboratory(schedule, make_clock=lambda device: clocks[str(device)], make_workload=build)
    return lab.measure_block("block", cases, asked)


def test_cases_of_two_devices_are_measured_side_by_side_by_the_clock_of_each():
    found = measured_on_two_devices([MAX, ELSEWHERE], [(MAX, ELSEWHERE)])
    on_one, on_other = (found[case].record("test") for case in (MAX, ELSEWHERE))
    assert on_one.block == on_other.block == "block"
    assert on_one.values["latency"].value == pytest.approx(0.01)
    assert on_other.values["latency"].value == pytest.approx(0.001)
    assert on_one.over(on_other).value == pytest.approx(10)


def test_a_member_that_one_device_holds_only_alone_leaves_the_others_their_ratios():
    tried = []

    def build(case):
        tried.append(case)
        if case == ELSEWHERE and tried.count(ELSEWHERE) == 1:
            raise torch.OutOfMemoryError("none is left on the device")
        return Workload(case)

    found = measured_on_two_devices([MAX, AVERAGE, ELSEWHERE], [(MAX, AVERAGE), (MAX, ELSEWHERE)], build)
    records = {case: found[case].record("test") for case in (MAX, AVERAGE, ELSEWHERE)}
    assert records[ELSEWHERE].block == ""
    assert records[ELSEWHERE].values["latency"].value == pytest.approx(0.001)
    assert records[MAX].over(records[AVERAGE]).value == pytest.approx(1.0)
    assert records[MAX].over(records[ELSEWHERE]) is None


def test_a_ratio_has_the_cycles_that_both_of_its_cases_have():
    few, many = Samples([[Reading(0.02, 0.02)]] * 3), Samples([[Reading(0.01, 0.01)]] * 5)
    above, below = (Measured(case, {}, each, [], 0.0) for case, each in ((MAX, few), (ELSEWHERE, many)))
    (over,) = above.over(below).ratios
    assert (over.ratio.value, over.ratio.rounds) == (pytest.approx(2.0), 3)


def test_a_member_for_which_there_is_never_memory_says_so():
    def build(case):
        if case == AVERAGE:
            raise torch.OutOfMemoryError("none is left")
        return Workload(case)

    found = measured(PAIR, build)
    assert isinstance(found[AVERAGE], OutOfMemory)
    assert found[MAX].values["latency"].value == pytest.approx(0.001)


def test_a_run_measures_a_block_once_and_each_of_its_cases_reports_its_own_part():
    run = BenchRun(Options(), 2, laboratory())
    run.runner.blocks = blocks_of([("a.py::test", case) for case in PAIR])
    asked = []
    measure_blocks = run.laboratory.measure_blocks
    run.laboratory.measure_blocks = lambda tasks: asked.extend(task.cases for task in tasks) or measure_blocks(tasks)
    lines = []
    for case in PAIR:
        lines.append(run.announce(case))
        run.keep(run.measure(case), "test")
    assert asked == [tuple(PAIR)]
    assert [record.case for record in run.run().cases] == PAIR
    assert "(together with 1 other)" in lines[0]
    assert "together" not in lines[1]


def test_a_case_that_is_asked_for_again_is_measured_again():
    run = BenchRun(Options(), 2, laboratory())
    run.runner.blocks = blocks_of([("a.py::test", MAX)])
    first, second = (run.measure(MAX) for _ in range(2))
    assert first is not second


def test_networks_of_one_class_in_a_block_are_compiled_each_by_itself():
    with compilation.fresh_compiler():
        workloads = [Workload(MAX.replace(engine="compile"), seed=seed) for seed in range(2)]
        for workload in workloads:
            workload.compile()
        facts = [compilation.compile_first_round(workload) for workload in workloads]
    assert [each.graphs for each in facts] == [1, 1]


def test_the_settings_of_a_block_with_compiled_cases_are_those_of_compiled_cases(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr("cnnperf.measure.support.cpu_cores", lambda: 2)
    eager = Case("lenet5", batch=2, threads=1)
    compiled = eager.replace(engine="compile")
    threads = []

    def build(case):
        threads.append(config.cpp.threads)
        raise torch.OutOfMemoryError("enough was observed")

    measured([eager, compiled], build)
    assert threads[:2] == [1, 1]


class Refusing:
    """A laboratory that measures nothing, and so spends nothing of any budget."""

    schedule = Schedule(budget=1.0)

    def __init__(self):
        self.budgets = []

    def measure_blocks(self, tasks):
        self.budgets += [task.schedule.budget for task in tasks]
        return {case: WrongResult("refused") for task in tasks for case in task.cases}


def test_time_that_a_block_leaves_over_is_shared_by_the_cases_that_wait():
    cases = [Case("lenet5", batch=batch) for batch in (1, 1, 2, 3, 3, 3)]
    cases = [
        case.replace(engine=engine)
        for case, engine in zip(cases, ("eager", "compile", "eager", "eager", "compile", "cudagraphs"), strict=True)
    ]
    laboratory_ = Refusing()
    runner = BlockRunner(laboratory_, blocks_of([("a.py::test", case) for case in cases]), one_by_one=True)
    for first in (cases[0], cases[2], cases[3]):
        with pytest.raises(WrongResult):
            runner.result(first)
    assert [len(block.cases) for block in dict.fromkeys(runner.blocks.values())] == [2, 1, 3]
    assert laboratory_.budgets == [1.0, 1.0 + 2 / 4, 1.0 + 3 / 3]


def run_of(cases, **options):
    """Return a runner of blocks whose laboratory refuses all cases, after the first case has been asked for."""
    laboratory_ = Refusing()
    runner = BlockRunner(laboratory_, blocks_of([("a.py::test", case) for case in cases]), **options)
    with pytest.raises(WrongResult):
        runner.result(cases[0])
    return len(laboratory_.budgets)


def test_the_blocks_of_a_run_are_measured_together_as_long_as_their_budget_is_a_minute():
    assert run_of([Case("lenet5", batch=batch) for batch in range(1, 43)]) == 42
    assert run_of([Case("lenet5", batch=batch) for batch in range(1, 100)]) == 60


def test_blocks_are_measured_one_by_one_where_the_first_failure_ends_the_run():
    assert run_of([Case("lenet5", batch=batch) for batch in range(1, 4)], one_by_one=True) == 1


TRAINING = [case.replace(phase="train") for case in PAIR]


def test_a_block_that_finds_no_memory_beside_another_is_measured_after_it():
    tried, measured_blocks = [], []

    def build(case):
        tried.append(case)
        if case == TRAINING[1] and tried.count(case) == 1:
            raise torch.OutOfMemoryError("none is left")
        return Workload(case)

    run = BenchRun(Options(), 4, laboratory(build))
    run.runner.blocks = blocks_of([("a.py::test", case) for case in PAIR + TRAINING])
    measure_blocks = run.laboratory.measure_blocks
    run.laboratory.measure_blocks = lambda tasks: measured_blocks.append(len(tasks)) or measure_blocks(tasks)
    records = [run.measure(case).record("test") for case in PAIR + TRAINING]
    assert measured_blocks == [2, 1]
    assert records[3].block == records[2].block != records[0].block
    assert records[3].block, "and its ratios are paired"


def test_blocks_end_where_they_would_take_more_than_half_of_the_memory_that_is_left(monkeypatch):
    held = iter([1.0, 3.0, 6.1, 7.0])
    monkeypatch.setattr("cnnperf.measure.measurement.process_memory", lambda: Process(next(held), 0.0, 11.0))
    tasks = [
        BlockTask(phase, tuple(case.replace(phase=phase) for case in PAIR), (), Schedule(budget=0.0))
        for phase in ("forward", "backward", "train")
    ]
    found = laboratory().measure_blocks(tasks)
    assert {case.phase for case in found} == {"forward", "backward"}


class FailingLate(Workload):
    """Workload that finds no memory after some calls."""

    calls = 0

    def relocate(self):
        super().relocate()
        if self.case.phase == "train":
            FailingLate.calls += 1
            if FailingLate.calls == 5:
                raise torch.OutOfMemoryError("none is left")


def test_a_block_that_runs_out_of_memory_in_a_visit_is_measured_again_by_itself():
    asked = {"forward": tuple(compared_cases(PAIR)), "train": tuple(compared_cases(TRAINING))}
    tasks = [
        BlockTask(phase, tuple(cases), asked[phase], Schedule(budget=0.0))
        for phase, cases in (("forward", PAIR), ("train", TRAINING))
    ]
    found = laboratory(FailingLate).measure_blocks(tasks)
    assert [found[case].block for case in TRAINING] == ["train", "train"]
    assert [found[case].block for case in PAIR] == ["forward", "forward"]
    assert FailingLate.calls > 5


def lines_of(in_blocks):
    """Return what a run says is left after each of four cases, some of which are measured in blocks."""
    run = BenchRun(Options(), 4, laboratory())
    run.runner.blocks = blocks_of([("a.py::test", case) for case in in_blocks])
    lines = []
    for case in (*PAIR, *TRAINING):
        run.announce(case)
        lines.append(run.keep(run.measure(case), "test").partition("  (")[2])
    return lines


def test_the_time_left_is_that_of_the_cases_that_are_not_measured_yet():
    assert lines_of([*PAIR, *TRAINING]) == ["3 left)", "2 left)", "1 left)", ""]
    first, second, third, last = lines_of(PAIR)
    assert first.startswith("3 left, about ")
    assert second.startswith("2 left, about ")
    assert third.startswith("1 left, about ")
    assert last == ""


def test_an_interrupt_keeps_a_case_alone_that_was_finished_before_it():
    class Interrupting(Workload):
        """Workload whose training the user interrupts during its warm-up."""

        def relocate(self):
            raise KeyboardInterrupt

    lab = laboratory(lambda case: (Interrupting if case == TRAINING[0] else Workload)(case))
    tasks = [BlockTask(case.phase, (case,), (), Schedule(budget=0.0)) for case in (MAX, TRAINING[0])]
    with pytest.raises(Interrupted) as interrupt:
        lab.measure_blocks(tasks)
    assert list(interrupt.value.results) == [MAX]
    runner = BlockRunner(lab, blocks_of([("a.py::test", case) for case in (MAX, TRAINING[0])]))
    with pytest.raises(KeyboardInterrupt):
        runner.result(MAX)
    assert [result.case for result, _ in runner.unreported()] == [MAX]


def compilations(monkeypatch, *groups):
    """Measure groups of tasks of one case each; return the results and how often a network was compiled."""
    calls = []
    compile_network = Workload.compile
    monkeypatch.setattr(Workload, "compile", lambda self: (calls.append(self.case), compile_network(self)))
    lab, found = laboratory(), {}
    for cases in groups:
        found |= lab.measure_blocks([BlockTask(case.label(), (case,), (), lab.schedule) for case in cases])
    return found, calls


def test_a_training_step_and_its_backward_pass_are_compiled_once_where_both_are_prepared(monkeypatch):
    training = MAX.replace(engine="compile", phase="train")
    backward = training.replace(phase="backward")
    found, calls = compilations(monkeypatch, [backward, training])
    assert calls == [backward]
    first, second = found[backward], found[training]
    for name in ("graphs", "kernels", "graph_breaks", "recompiles"):
        assert second.values[name] == first.values[name]
    assert {"compile_cold", "compile_warm"} & second.values.keys()
    assert first.compile_seconds > 0
    assert second.compile_seconds == 0, "the seconds of a run would count them twice"
    assert second.values["parameter_memory"] == first.values["parameter_memory"]
    assert second.values["optimizer_memory"].value > 0


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"layout": "channels_last"}, {"batch": 3}])
def test_training_of_another_form_is_compiled_by_itself(monkeypatch, change):
    training = MAX.replace(engine="compile", phase="train")
    _, calls = compilations(monkeypatch, [training, training.replace(phase="backward", **change)])
    assert len(calls) == 2


def test_a_network_that_was_measured_before_is_not_kept_for_its_graph(monkeypatch):
    training = MAX.replace(engine="compile", phase="train")
    _, calls = compilations(monkeypatch, [training.replace(phase="backward")], [training])
    assert len(calls) == 2
