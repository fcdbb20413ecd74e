"""Replays of captured calls, on a device that stands in for one."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch

from cnnperf.errors import UnsupportedCase, WrongResult
from cnnperf.measure import cells, graph_replay
from cnnperf.measure.cells import Cell, all_cells, measure_cell
from cnnperf.measure.clock import Reading
from cnnperf.measure.graph_replay import LEAST_REPLAY, MOST_CALLS, Replayed, sets_for
from cnnperf.measure.paired import Together
from cnnperf.measure.sampler import Schedule


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
    assert made.calls == MOST_CALLS


def test_a_call_that_cannot_be_captured_is_one_sentence_with_its_name():
    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    with pytest.raises(UnsupportedCase, match=r"form cannot be captured .* not permitted when stream is capturing$"):
        Replayed("form", Recording(), 3, Clock(1.0), refuse)


@pytest.mark.parametrize(("size", "sets"), [(8 << 20, 13), (268 << 20, 3), (1, 64)])
def test_the_sets_of_buffers_are_twice_the_cache_and_at_least_three(size, sets):
    assert sets_for(size, 50 << 20) == sets


def test_seconds_of_a_replay_are_divided_among_its_calls():
    together = Together({"a": [[2.0, 4.0]], "b": [[1.0, 1.0]]}, "budget").per_call({"a": 2, "b": 1})
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
    monkeypatch.setattr(cells, "ReplayClock", Replays)
    monkeypatch.setattr(cells, "capture", capture)
    monkeypatch.setattr(graph_replay.Replayed.__init__, "__defaults__", (capture,))
    monkeypatch.setattr(cells, "clock_for", lambda _: Replays(None))
    monkeypatch.setattr(cells, "allowed_tf32", nothing)
    monkeypatch.setattr(cells, "_on_cpu", None)
    return seen


class Elsewhere(Cell):
    """A cell of CUDA whose tensors are on the CPU."""


def cell_on(monkeypatch, part="tail", trains=True):
    made = cells._build

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
    assert set(record["seconds"]) == forms | {cells.COPY}
    assert set(record["host_seconds"]) == forms
    assert record["calls"] == dict.fromkeys([*record["seconds"]], 3)
    assert record["seconds"]["fused"]["value"] == pytest.approx(LEAST_REPLAY / 3, rel=0.05)
    passes = record["floor_passes"]
    assert record["floor_seconds"]["value"] == pytest.approx(passes / 2 * record["seconds"][cells.COPY]["value"])
    assert together.groups.keys() == record["seconds"].keys()
    assert cuda == ["strict"]


def test_a_form_that_computes_something_else_in_a_replay_is_refused(cuda, monkeypatch):
    cell = cell_on(monkeypatch)

    class Part(cells.Part):
        captured = False

        def output(self):
            found = super().output()
            return found + 1 if self.captured and "Fused" in type(self.module).__name__ else found

    def capture(function):
        Part.captured = True
        function()
        graph = FakeGraph()
        graph.function = function
        return graph

    monkeypatch.setattr(cells, "Part", Part)
    monkeypatch.setattr(cells, "capture", capture)
    with pytest.raises(WrongResult, match="output of `fused`"):
        measure_cell(cell, Schedule(budget=1e-3))


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
    assert record["seconds"]["fused"]["value"] <= record["host_seconds"]["fused"]["value"]
