"""The walk of a sweep, with a laboratory whose times and memory are made."""

from dataclasses import replace
from pathlib import Path

import pytest

from cnnperf import fusion
from cnnperf.errors import CnnperfError, Interrupted, OptionError, OutOfMemory, UnsupportedCase, WrongResult
from cnnperf.measure.clock import Reading
from cnnperf.measure.measurement import Measured
from cnnperf.measure.memory_forecast import CODE, MARGIN, SMALLEST, STEEPEST, Forecast, Process
from cnnperf.measure.sampler import INTERRUPTED, Samples, Schedule
from cnnperf.measure.work import count_work
from cnnperf.models import catalog
from cnnperf.models.catalog import resolve
from cnnperf.records.case import Case
from cnnperf.records.metrics import Value
from cnnperf.runs.frame import frame_of_runs
from cnnperf.runs.ratios import latency_ratio
from cnnperf.runs.sweeps import with_sweeps
from cnnperf.suite.bench_run import BenchRun
from cnnperf.suite.options import Options
from cnnperf.suite.plan import Plan, thread_counts
from cnnperf.suite.sweep import Sweep, SweepRunner, default_values, largest_batch

pytestmark = pytest.mark.slow

PLENTY = Process(0.0, 0.0, 2.0**50)


class Made:
    """A laboratory in which a call takes `fixed` seconds and `each` for every image, up to a batch of `most`."""

    schedule = Schedule()

    def __init__(self, fixed=8.0, each=1.0, most=2**40):
        self.ceilings, self.tried, self.measured, self.blocks = {}, [], [], []
        self.together = []
        self.fixed, self.each, self.most = fixed, each, most

    def fits(self, case):
        self.tried.append(case.batch)
        return case.batch <= self.most

    def thread_efficiencies(self, cases):
        return {threads: Value(0.9, 0.8, 1.0) for threads in cases if threads > 1}

    def measure_block(self, name, cases, asked, schedule):
        self.blocks.append([case.engine for case in cases])
        found = {case: self.result(case) for case in cases}
        there = {case: each for case, each in found.items() if isinstance(each, Measured)}
        for above, each in there.items():
            others = [there[below] for numerator, below in asked if numerator == above and below in there]
            found[above] = replace(each.over(*others), block=name if len(there) > 1 else "")
        return found

    def measure_blocks(self, tasks):
        self.together.append(len(tasks))
        blocks = [self.measure_block(task.name, task.cases, task.asked, task.schedule) for task in tasks]
        return {case: result for block in blocks for case, result in block.items()}

    def result(self, case):
        try:
            return self.measure(case)
        except CnnperfError as error:
            return error

    def measure(self, case):
        if case.architecture == "plain_stack":
            raise UnsupportedCase("it is plain")
        self.measured.append(case)
        if case.batch > self.most:
            raise OutOfMemory("out of memory: tried to allocate 2 GiB\nand more")
        if case.architecture == "residual_stack" and case.batch > 1:
            raise WrongResult("output is wrong")
        compiled = case.engine == "compile"
        fixed, each = (2 * self.fixed, self.each / 2) if compiled else (self.fixed, self.each)
        seconds = (fixed + each * case.batch / (case.threads or 1)) * 1e-3
        factors = (1.001, 0.999, 1.0) if compiled else (0.999, 1.0, 1.001)
        samples = Samples([[Reading(seconds * factor, seconds)] for factor in factors])
        latency = samples.latency()
        peak = 2.0 * count_work(case).live
        values = {"latency": latency, "throughput": latency.scaled_inverse(case.batch), "peak_memory": Value(peak)}
        return Measured(case, values, samples, [], 0.0)


def sweep(laboratory, process=PLENTY, **chosen):
    """Walk, and return the session, what was told, and the frame of the run."""
    name = chosen.pop("architecture", "lenet5")
    wanted = Sweep(resolve(name), **{"axis": "batch", "phases": ("forward",), **chosen})
    session = BenchRun(Options(suite="sweep"), None, laboratory)
    session.step = wanted.step
    told = []
    walk = SweepRunner(wanted, session, told.append, Forecast(lambda: process))
    walk.run()
    return walk, "".join(told), frame_of_runs([("made", with_sweeps(session.run()))])


def values(frame, metric):
    return frame[frame.metric == metric].set_index("batch").value.to_dict()


def reasons(frame):
    return [reason for reason in frame.reason if reason]


def test_the_batch_is_doubled_to_the_knee_and_twice_more():
    laboratory = Made()
    _, told, frame = sweep(laboratory)
    assert [case.batch for case in laboratory.measured] == [2**power for power in range(10)]
    assert values(frame, "knee_batch") == {128: 128.0}
    assert told.splitlines()[0].startswith("[1] lenet5 forward cpu eager batch 1 9.00 ms ±0.1%, 111 images/s")


def test_a_larger_step_ends_the_sweep_sooner():
    laboratory = Made()
    sweep(laboratory, step=0.3)
    assert [case.batch for case in laboratory.measured][-1] == 64


def test_engines_take_turns_at_each_batch_until_both_have_their_knee():
    laboratory = Made()
    _, _, frame = sweep(laboratory, engines=("eager", "compile"))
    engines = [case.engine for case in laboratory.measured]
    assert engines == ["eager", "compile"] * 12
    assert values(frame, "knee_batch") == {128: 128.0, 512: 512.0}
    crossing = frame[frame.metric == "engine_crossover"].iloc[0]
    assert (crossing.engine, crossing.batch) == ("compile", 32)
    assert crossing.low < crossing.value < crossing.high
    assert crossing.value == pytest.approx(16, rel=0.01)


def test_the_engines_of_a_value_are_one_block_and_the_crossover_takes_their_paired_ratios():
    laboratory = Made()
    walk, _, _ = sweep(laboratory, engines=("eager", "compile"), values=(1, 2, 4))
    assert laboratory.blocks == [["eager", "compile"]] * 3
    records = {record.case: record for record in walk._run.run().cases}
    eager, compiled = (Case("lenet5", batch=4, engine=engine) for engine in ("eager", "compile"))
    assert records[eager].block == records[compiled].block
    assert records[eager].block == f"cnnperf sweep[{eager.id()}]"
    assert latency_ratio(records[eager], records[compiled]).paired
    assert len({record.block for record in records.values()}) == 3


def test_each_device_has_blocks_of_its_own_because_they_are_measured_one_after_the_other():
    laboratory = Made()
    walk, _, _ = sweep(laboratory, devices=("cpu", "cuda"), engines=("eager", "compile"), values=(1, 2))
    assert laboratory.blocks == [["eager", "compile"]] * 4
    assert len({record.block for record in walk._run.run().cases}) == 4


def test_a_line_that_has_ended_leaves_the_block_of_later_values():
    class NoneCompiled(Made):
        def measure(self, case):
            if case.engine == "compile" and case.batch > 1:
                raise OutOfMemory("none is left")
            return super().measure(case)

    laboratory = NoneCompiled()
    sweep(laboratory, devices=("cuda",), engines=("eager", "compile"), values=(1, 2, 4))
    assert laboratory.blocks == [["eager", "compile"], ["eager", "compile"], ["eager"]]


def test_engines_that_memory_does_not_hold_side_by_side_are_measured_alone():
    smallest, live = (count_work(Case("lenet5", batch=batch)).live for batch in (1, 64))
    one = SMALLEST * smallest + STEEPEST * (live - smallest)
    found = {}
    for count in (1, 2):
        laboratory = Made()
        process = Process(0.0, 0.0, 1.01 * (CODE + count * one) / (1 - MARGIN))
        sweep(laboratory, process=process, engines=("eager", "compile"), values=(64,))
        found[count] = laboratory.blocks
        assert set(laboratory.together) == {1}, "nor in turn"
    assert found == {1: [["eager"], ["compile"]], 2: [["eager", "compile"]]}


def test_a_case_that_would_not_fit_is_in_no_block_and_not_tried():
    laboratory = Made()
    _, _, frame = sweep(laboratory, process=Process(0.0, 0.0, CODE), engines=("eager", "compile"), values=(64,))
    assert laboratory.blocks == []
    assert len([reason for reason in reasons(frame) if "it would run out of memory" in reason]) == 2


def test_an_interrupted_block_keeps_its_whole_cycles():
    class InterruptedInIt(Made):
        def measure_blocks(self, tasks):
            results = super().measure_blocks(tasks)
            for measured in results.values():
                measured.samples.stopped = INTERRUPTED
            raise Interrupted(results)

    session = BenchRun(Options(suite="sweep"), None, InterruptedInIt())
    wanted = Sweep(resolve("lenet5"), "batch", (1, 2), ("forward",), engines=("eager", "compile"))
    with pytest.raises(KeyboardInterrupt):
        SweepRunner(wanted, session, lambda _: None, Forecast(lambda: PLENTY)).run()
    assert [(record.case.engine, bool(record.test)) for record in session.records] == [
        ("eager", True),
        ("compile", True),
    ]


def test_where_the_gpu_ends_the_largest_batch_is_found_by_trying():
    laboratory = Made(fixed=1e9, most=1500)
    _, told, frame = sweep(laboratory, devices=("cuda",))
    assert [case.batch for case in laboratory.measured][-1] == 2048
    largest = frame[frame.metric == "largest_batch"].iloc[0]
    assert largest.batch == 1024
    assert largest.low == largest.value <= 1500 <= largest.high <= largest.value * 1.04
    assert "not measured: out of memory: tried to allocate 2 GiB\n" in told
    assert max(laboratory.tried) <= 2048
    assert reasons(frame) == ["out of memory: tried to allocate 2 GiB\nand more"]


def test_memory_that_ends_while_checking_is_not_the_end_of_what_fits():
    class Checking(Made):
        def measure(self, case):
            if case.batch > self.most // 4:
                raise OutOfMemory("out of memory")
            return super().measure(case)

    laboratory = Checking(fixed=1e9, most=4096)
    _, _, frame = sweep(laboratory, devices=("cuda",))
    assert values(frame, "largest_batch") == {1024: 4096.0}


def test_beyond_the_knee_the_largest_batch_is_looked_for_only_if_asked():
    laboratory = Made(most=2000)
    _, _, frame = sweep(laboratory, devices=("cuda",))
    assert (values(frame, "largest_batch"), laboratory.tried) == ({}, [])
    _, _, frame = sweep(laboratory, devices=("cuda",), to_memory=True)
    assert list(values(frame, "largest_batch")) == [512]


def test_where_the_memory_of_the_cpu_would_end_nothing_is_attempted():
    limit = Process(0.0, 0.0, 520e6)
    laboratory = Made(fixed=1e9)
    _, told, frame = sweep(laboratory, process=limit)
    assert [case.batch for case in laboratory.measured] == [1, 2, 4, 8, 16]
    assert laboratory.tried == []
    assert "not measured: not tried, it would run out of memory: it needs about" in told
    (largest,) = values(frame, "largest_batch").values()
    counted = [2.0 * count_work(Case("lenet5", batch=int(batch))).live for batch in (largest, largest * 1.05)]
    assert counted[0] <= 468e6 < counted[1]


def test_where_the_system_does_not_tell_no_largest_batch_is_made_up():
    laboratory = Made()
    _, told, frame = sweep(laboratory, process=None, to_memory=True)
    assert values(frame, "largest_batch") == {}
    assert "largest batch" not in told


def test_no_larger_batch_is_measured_than_allowed():
    laboratory = Made(fixed=1e9)
    sweep(laboratory, most=20)
    assert [case.batch for case in laboratory.measured] == [1, 2, 4, 8, 16]


def test_values_that_are_given_are_all_measured_whatever_the_knee():
    laboratory = Made(fixed=0.0)
    sweep(laboratory, values=(1, 3, 300))
    assert [case.batch for case in laboratory.measured] == [1, 3, 300]


def test_a_case_that_cannot_run_here_ends_its_line_with_the_reason():
    _, told, frame = sweep(Made(), architecture="plain_stack", values=(1, 2))
    assert reasons(frame) == [
        "it is plain",
        "not tried: the sweep ended before, with a case that this machine cannot run",
    ]
    assert told == "[1] plain_stack forward cpu eager batch 1 not measured: it is plain\n"


def test_a_wrong_result_is_kept_and_remembered_and_the_second_on_end_ends_the_line():
    walk, _, frame = sweep(Made(), architecture="residual_stack")
    assert walk.wrong
    assert list(values(frame, "throughput")) == [1]
    assert reasons(frame) == ["output is wrong"] * 2


def test_one_wrong_result_does_not_end_a_line():
    class WrongAtTwo(Made):
        def measure(self, case):
            if case.batch == 2:
                raise WrongResult("a gradient is wrong")
            return super().measure(case)

    walk, _, frame = sweep(WrongAtTwo(), most=8)
    assert walk.wrong
    assert list(values(frame, "throughput")) == [1, 4, 8]


def test_efficiency_of_threads_is_a_metric_of_each_case(monkeypatch):
    monkeypatch.setattr("cnnperf.suite.sweep.cpu_cores", lambda: 4)
    _, _, frame = sweep(Made(fixed=0.0), axis="threads", values=(1, 2, 4))
    found = frame[frame.metric == "thread_efficiency"].set_index("threads").value.to_dict()
    assert found == pytest.approx({1: 1.0, 2: 0.9, 4: 0.9})  # of rounds side by side
    _, _, frame = sweep(Made(fixed=0.0), axis="threads", values=(1, 2, 4), engines=("compile",))
    found = frame[frame.metric == "thread_efficiency"].set_index("threads").value.to_dict()
    assert found == pytest.approx({1: 1.0, 2: 1.0, 4: 1.0})  # of medians


def test_the_largest_batch_is_found_to_the_image_where_it_is_small():
    assert largest_batch(Case("lenet5"), 1, lambda case: case.batch <= 13) == Value(13.0, 13.0, 13.0)


def test_the_journal_has_every_case_before_the_next_begins(tmp_path):
    session = BenchRun(Options(suite="sweep"), None, Made(), environment={"cpu_model": "made"})
    session.keep_journal(tmp_path, {"id": "0" * 40})
    seen = []

    def write(text):
        seen.append(len(Path(session.journal.path).read_text().splitlines()))

    SweepRunner(Sweep(resolve("lenet5"), "batch", (1, 2), ("forward",)), session, write, Forecast(lambda: PLENTY)).run()
    assert seen == [1, 2, 2, 3]


def test_the_default_values_suit_the_architecture(monkeypatch):
    monkeypatch.setattr("cnnperf.suite.sweep.cpu_cores", lambda: 3)
    found = {axis: default_values(axis, resolve("resnet18")) for axis in ("batch", "threads", "image_size", "width")}
    assert found == {
        "batch": (),
        "threads": (1, 2, 3),
        "image_size": (16, 32, 64, 128),
        "width": (16, 32, 64, 128),
    }


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("lenet5", {"axis": "width", "values": (16,)}, "lenet5 has one width only, not 16"),
        ("lenet5", {"axis": "image_size", "values": (64,)}, "lenet5 takes images of 32 x 32 only"),
        ("resnet18", {"axis": "threads", "values": (1, 4096)}, "takes 1 to"),
        ("resnet18", {"axis": "threads", "values": (1,), "devices": ("cuda",)}, "and no GPU"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(name, chosen, message):
    with pytest.raises(OptionError, match=message):
        Sweep(resolve(name), **chosen).groups()


def test_threads_are_each_counted_up_to_eight_and_doubled_above():
    assert thread_counts(3) == (1, 2, 3)
    assert thread_counts(20) == (1, 2, 3, 4, 5, 6, 7, 8, 16, 20)
    assert thread_counts(32) == (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


def test_the_full_suite_sweeps_over_batch_and_threads(monkeypatch):
    monkeypatch.setattr("cnnperf.suite.plan.cpu_cores", lambda: 2)
    cases = Plan(suite="full").cases(resolve("lenet5"))
    swept = [case for case in cases if (case.phase, case.precision, case.layout) == ("train", "fp32", "contiguous")]
    assert sorted({case.batch for case in swept}) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert {(case.threads, case.engine, case.batch) for case in swept if case.threads} == {
        (1, "eager", 128),
        (2, "eager", 128),
    }
    assert len(cases) == len(set(cases))
    rows = (*catalog.ARCHITECTURES, *fusion.ARCHITECTURES)  # the catalog may hold those of other tests too
    assert sum(len(Plan(suite="full").cases(row)) for row in rows) == 412


def test_an_override_holds_in_the_sweeps_of_the_full_suite_too():
    cases = Plan(suite="full", overrides={"batch": (4,), "phase": ("backward",)}).cases(resolve("lenet5"))
    assert {(case.batch, case.phase) for case in cases} == {(4, "backward")}
