"""Replays of captured calls, on a device that stands in for one."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from cnnperf.errors import UnsupportedCase, WrongResult
from cnnperf.measure import cells, graph_replay
from cnnperf.measure.cells import Cell, all_cells, measure_cell
from cnnperf.measure.clock import Reading
from cnnperf.measure.graph_replay import LEAST_REPLAY, MOST_CALLS, Replayed, sets_for
from cnnperf.measure.sampler import Schedule
from cnnperf.records.run import Run
from cnnperf.report.terminal import render_run
from cnnperf.stats.paired import PairedSamples


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
    together = PairedSamples({"a": [[2.0, 4.0]], "b": [[1.0, 1.0]]}, "budget").per_call({"a": 2, "b": 1})
    assert together.groups == {"a": [[1.0, 2.0]], "b": [[1.0, 1.0]]}
    assert together.ratio("a", "b").value == 1.5


class FakeGraph:
    """Stands for `torch.cuda.CUDAGraph`: a replay runs on the CPU what was captured."""

    def replay(self):
        self.function()


@pytest.fixture
def cuda(monkeypatch):
    """Let cells of CUDA run on the CPU, whose calls take the seconds of the real clock's stand-in."""
    ticks = iter(range(1, 1_000_000))

    class Replays:
        def __init__(self, _):
            pass

        def now(self):
            return 0.0

        def read(self, call):
            call()
            return Reading(LEAST_REPLAY * (1 + next(ticks) % 3 / 100), 0.0)

    def capture(function):
        function()
        graph = FakeGraph()
        graph.function = function
        return graph

    @contextmanager
    def nothing(_):
        seen.append("strict")
        yield

    seen = []
    properties = type("Properties", (), {"L2_cache_size": 1 << 10})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(cells, "ReplayClock", Replays)
    monkeypatch.setattr(graph_replay.Replayed.__init__, "__defaults__", (capture,))
    monkeypatch.setattr(cells, "clock_for", lambda _: Replays(None))
    monkeypatch.setattr(cells, "allowed_tf32", nothing)
    monkeypatch.setattr(cells, "_on_cpu", None)
    return seen


class Fixed(cells.Part):
    """A part whose calls write where its first ones did, as replays do."""

    def run(self):
        super().run()
        present, kept = self.sets[self._present], self.__dict__.setdefault("kept", {})
        written = [present.output, *(one.grad for one in present.maps if one.grad is not None)]
        for place, one in zip(kept.setdefault(self._present, written), written, strict=True):
            place.copy_(one)
        present.output, *gradients = kept[self._present]
        for one, gradient in zip(present.maps, gradients, strict=bool(gradients)):
            one.grad = gradient


def cell_on(monkeypatch, part="tail", trains=True):
    made = cells._build
    monkeypatch.setattr(cells, "Part", Fixed)

    def build(cell, sets=1):
        return made(Cell(cell.part, cell.trains, cell.shape, cell.layout, cell.precision, "cpu"), sets)

    monkeypatch.setattr(cells, "_build", build)
    monkeypatch.setattr(
        cells, "_copy", lambda cell, sets=1: {cells.COPY: cells.Copy(cell.shape, cell.precision, "cpu", sets)}
    )
    return Cell(part, trains, (2, 16, 4, 4), "channels_last", "fp32", "cuda")


def test_a_cell_of_a_gpu_has_device_and_host_seconds_and_what_is_expected(cuda, monkeypatch):
    together, record = measure_cell(cell_on(monkeypatch), Schedule(budget=1e-2))
    forms = {"eager", "compile", "fused"}
    assert set(record.seconds) == forms | {cells.COPY}
    assert set(record.host_seconds) == forms
    assert record.calls == dict.fromkeys([*record.seconds], 3)
    assert record.seconds["fused"].value == pytest.approx(LEAST_REPLAY / 3, rel=0.05)
    passes = record.floor_passes
    assert record.floor_seconds.value == pytest.approx(passes / 2 * record.seconds[cells.COPY].value)
    assert together.groups.keys() == record.seconds.keys()
    assert cuda == ["strict"]


def test_a_graph_that_writes_something_else_than_a_call_is_refused(cuda, monkeypatch):
    cell, runs = cell_on(monkeypatch), []

    class Wrong(Fixed):
        def run(self):
            super().run()
            runs.append(1)
            if len(runs) > 40:  # after the calls that are compared with
                self.sets[self._present].output *= 1.1

    monkeypatch.setattr(cells, "Part", Wrong)
    with pytest.raises(WrongResult, match=r"a replay of `.*` is 0.1 of its norm away from that of a call"):
        measure_cell(cell, Schedule(budget=1e-3))


def test_a_form_that_cannot_be_captured_keeps_its_host_time_and_the_others_all(cuda, monkeypatch):
    cell, made = cell_on(monkeypatch), cells.Replayed

    def replay(name, *given):
        if name.endswith("compile"):
            raise UnsupportedCase(f"{name} cannot be captured into a CUDA graph: it waits")
        return made(name, *given)

    monkeypatch.setattr(cells, "Replayed", replay)
    _, record = measure_cell(cell, Schedule(budget=1e-3))
    assert "it waits" in record.not_captured["compile"]
    assert "compile" not in record.seconds
    assert {"eager", "compile", "fused"} == set(record.host_seconds)
    lines = render_run(Run(fusion=(record,)))
    assert any(line.startswith("no device time: ") for line in lines)


def test_nothing_that_a_call_reads_or_writes_lies_where_the_next_one_s_does():
    part = cells.Part("tail", "fused", (2, 16, 4, 4), trains=True, layout="contiguous", precision="fp32", sets=3)
    for _ in range(3):
        part.setup()
        part.run()
        part.turn()
    tensors = [one for each in part.sets for one in (*each.maps, *(m.grad for m in each.maps), each.grad, each.output)]
    assert len({one.data_ptr() for one in tensors}) == len(tensors) == 3 * 6


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


def test_a_short_run_on_a_gpu_has_what_matters_most_first():
    found = all_cells(("cuda",), full=False)
    assert len(found) == 64
    assert found[0] == Cell("tail", True, (512, 64, 32, 32), "channels_last", "fp32", "cuda")
    assert {cell.part for cell in found} == {"tail", "se"}
    half = found[:32]
    assert {cell.layout for cell in half} == {"channels_last"}
    assert {cell.part for cell in all_cells(("cuda",), full=True)} == {"se", "tail", "block", "network"}


@pytest.mark.gpu
@pytest.mark.parametrize("trains", [True, False])
def test_a_cell_is_measured_on_a_device(trains):
    _, record = measure_cell(Cell("tail", trains, (32, 64, 32, 32), "channels_last", "fp32", "cuda"), Schedule(0.05))
    assert record.seconds["fused"].value <= record.host_seconds["fused"].value
