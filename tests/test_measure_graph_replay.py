"""Replays of captured calls, on a device that stands in for one."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from cnnperf.errors import UnsupportedCase, WrongResult
from cnnperf.measure import graph_replay, rotation
from cnnperf.measure.clock import Reading
from cnnperf.measure.graph_replay import LEAST_REPLAY, MOST_CALLS, Replayed, sets_for
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.measure.support import check_supported
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case

pytestmark = pytest.mark.slow


@dataclass
class Recording:
    """Subject that notes what is asked of it."""

    asked: list[str] = field(default_factory=list)

    def setup(self):
        self.asked.append("setup")

    def run(self):
        self.asked.append("run")

    def turn(self):
        self.asked.append("turn")


class Clock:
    """Replays take so many seconds a call."""

    def __init__(self, seconds):
        self.seconds, self.graph = seconds, None

    def now(self):
        return 0.0

    def read(self, call):
        call()
        return Reading(self.seconds * self.graph.calls, 0.0)


class Graph:
    """Stands for a captured graph: counts its calls when they are captured."""

    def __init__(self, clock, function):
        self.clock, self.function = clock, function
        before = clock.recording.asked.count("run")
        function()
        self.calls = clock.recording.asked.count("run") - before

    def replay(self):
        self.clock.graph = self


def replayed(seconds, sets=3):
    clock = Clock(seconds)
    clock.recording = Recording()
    return Replayed("form", clock.recording, sets, clock, lambda function: Graph(clock, function)), clock


def test_a_short_call_is_captured_so_often_that_a_replay_is_long_enough():
    made, clock = replayed(2e-6)
    assert clock.seconds * made.calls >= LEAST_REPLAY
    assert made.calls % 3 == 0
    assert made.calls < 3 * LEAST_REPLAY / 2e-6


def test_a_long_call_is_captured_once_for_each_set_of_buffers():
    made, clock = replayed(1e-3)
    assert made.calls == 3
    assert clock.recording.asked == ["setup", "run", "turn"] * 3


def test_the_number_of_calls_has_an_end():
    made, _ = replayed(1e-12)
    assert made.calls == MOST_CALLS // 3 * 3


def test_a_call_that_cannot_be_captured_is_one_sentence_with_its_name():
    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.raises(UnsupportedCase, match=r"form cannot be captured .* not permitted when stream is capturing$"):
        Replayed("form", Recording(), 3, Clock(1.0), refuse)


@pytest.mark.parametrize(("size", "sets"), [(8 << 20, 13), (268 << 20, 3), (1, 64)])
def test_the_sets_of_buffers_are_twice_the_cache_and_at_least_three(size, sets):
    assert sets_for(size, 50 << 20) == sets


def test_seconds_of_a_replay_are_divided_among_its_calls():
    samples = Samples(groups=[[Reading(2.0, 1.0), Reading(4.0, 0.0)]], energy=[6.0]).per_call(2)
    assert samples.wall() == [[1.0, 2.0]]
    assert samples.groups[0][0].cpu == 0.5
    assert samples.energy == [3.0]


PART = Case("fused:part:tail", "train", layout="channels_last", batch=2, image_size=4, width=16)


class FakeGraph:
    """Stands for `torch.cuda.CUDAGraph`: a replay runs on the CPU what was captured."""

    def __init__(self, function):
        self.replay = function
        function()


@pytest.fixture
def replays(monkeypatch):
    """Let replays run on the CPU; each takes as long as it has to."""

    class Replays:
        def __init__(self, _):
            pass

        def read(self, call):
            call()
            return Reading(LEAST_REPLAY, 0.0)

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("Properties", (), {"L2_cache_size": 1}))
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(rotation, "ReplayClock", Replays)


class InPlace(Workload):
    """Workload whose calls write where its first ones did, as replays do."""

    def run_in_place(self, run):
        run()
        written = [self.output, *(tensor.grad for tensor in self.task.inputs if tensor.grad is not None)]
        first = self.__dict__.setdefault("first", {}).setdefault(id(self.task), written)
        with torch.inference_mode():
            for place, tensor in zip(first, written, strict=True):
                place.copy_(tensor)
        self.output = first[0]
        for tensor, gradient in zip(self.task.inputs, first[1:], strict=False):
            tensor.grad = gradient


def in_place(case, spoil=lambda _: None):
    workload = InPlace(case)
    run = workload.run

    def run_and_spoil():
        workload.run_in_place(run)
        spoil(workload)

    workload.run = run_and_spoil
    return workload


@pytest.mark.parametrize("phase", ["forward", "train"])
def test_a_part_is_replayed_over_sets_of_maps(replays, phase):
    calls = rotation.replayed(in_place(PART.replace(phase=phase)), FakeGraph)
    assert calls.calls == 3


def test_a_graph_that_writes_something_else_than_a_call_is_refused(replays):
    runs = []

    def spoil(workload):
        runs.append(1)
        if len(runs) > 4:  # after the call that is compared with, and the capture
            workload.output.data *= 1.1

    with pytest.raises(WrongResult, match=r"a replay is 0.1 of its norm away from a call"):
        rotation.replayed(in_place(PART, spoil), FakeGraph)


def test_nothing_that_a_call_reads_or_writes_lies_where_the_next_one_s_does():
    workload = Workload(PART)
    sets = rotation.Rotation(workload, 3)
    tensors = []
    for _ in range(3):
        sets.setup()
        sets.run()
        tensors += [*workload.task.inputs, *(tensor.grad for tensor in workload.task.inputs)]
        sets.turn()
    tensors += sets._outputs
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors) == 3 * 5


def test_only_parts_are_replayed(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UnsupportedCase, match="only parts of networks are replayed"):
        check_supported(Case("lenet5", device="cuda", engine="replay"))


def test_after_a_failed_capture_the_stream_is_the_one_from_before_and_the_first_error_is_told(monkeypatch):
    streams = ["usual"]

    class Stream:
        def wait_stream(self, _):
            pass

    usual = Stream()

    @contextmanager
    def failing(_):
        streams.append("capture")
        yield
        raise RuntimeError("failed due to a previous error")

    def function():
        if streams[-1] == "capture":
            raise RuntimeError("it waits for the device")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: usual)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object, raising=False)
    monkeypatch.setattr(torch.cuda, "graph", failing)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: streams.append("usual" if stream is usual else "?"))
    with pytest.raises(RuntimeError) as caught:
        graph_replay.capture(function)
    assert streams[-1] == "usual"
    assert graph_replay.reason_of(caught.value) == "it waits for the device"


@pytest.mark.gpu
@pytest.mark.parametrize("phase", ["train", "forward"])
def test_the_forms_of_a_part_are_measured_on_a_device(phase):
    cases = [
        Case(architecture, phase, "cuda", engine, layout="channels_last", batch=32, image_size=32, width=64)
        for architecture in ("part:tail", "fused:part:tail")
        for engine in ("eager", "replay")
    ]
    laboratory = Laboratory(Schedule(0.05))
    seconds = {}
    for engine in ("eager", "replay"):
        block = [case for case in cases if case.engine == engine]
        found = laboratory.measure_block(engine, block, [tuple(block)])
        seconds[engine] = found[block[1]].values["latency"].value
    assert seconds["replay"] <= seconds["eager"]
