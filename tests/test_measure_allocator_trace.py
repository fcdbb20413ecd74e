"""Memory on CUDA from the caching allocator's trace: on made traces, and on an allocator that follows a CPU round."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from cnnperf.measure.allocator_trace import AllocatorTrace, Mark, allocations_of
from cnnperf.measure.memory import measure_memory
from cnnperf.measure.memory_split import split_peak
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case

DEVICE = torch.device("cuda", 0)


def entry(action, address, size):
    return {"action": action, "addr": address, "size": size, "stream": 0, "time_us": 0}


def alloc(address, size):
    return [entry("alloc", address, size)]


def free(address, size):
    """What one free leaves in a trace; the second entry comes when no stream uses the block any more."""
    return [entry("free_requested", address, size), entry("free_completed", address, size)]


def split_of(parts, gradients=()):
    """Split a trace that is given by parts: origin, whether it counts, and entries."""
    entries, marks = [], []
    for origin, counted, events in parts:
        marks.append(Mark(len(entries), origin, counted))
        entries += events
    return split_peak(allocations_of(entries, marks), gradients)


def test_a_backward_s_peak_has_the_activations_that_it_frees_later():
    setup = [*alloc(1, 1000), *alloc(2, 500)]
    backward = [*alloc(3, 30), *free(2, 500), *free(1, 1000), *alloc(4, 100)]
    split = split_of([("forward", False, setup), ("backward", True, backward)], gradients=[3, 4])
    assert split["peak"] == 1530
    assert (split["activations"], split["gradients"], split["other"]) == (1500, 30, 0)


def test_a_peak_after_activations_were_freed_is_not_counted_from_the_time_with_them():
    setup = alloc(1, 1000)
    backward = [*free(1, 1000), *alloc(2, 400), *alloc(3, 300), *free(3, 300)]
    split = split_of([("forward", False, setup), ("backward", True, backward)], gradients=[2])
    assert split["peak"] == 700
    assert min(split["activations"], split["gradients"], split["other"]) >= 0


def test_sizes_are_those_that_were_asked_for_and_segments_do_not_count():
    trace = [entry("segment_alloc", 0, 2 << 20), *alloc(1, 100), entry("snapshot", 0, 512), *alloc(2, 28)]
    assert split_of([("forward", True, trace)])["peak"] == 128


def test_a_block_is_free_once_that_is_requested():
    trace = [*alloc(1, 100), entry("free_requested", 1, 100), *alloc(2, 60), entry("free_completed", 1, 100)]
    assert split_of([("forward", True, trace)])["peak"] == 100


def test_a_leak_is_seen():
    assert split_of([("forward", True, [*alloc(1, 64), *alloc(2, 8), *free(2, 8)])])["leaked"] == 64


def test_what_lies_before_the_first_mark_is_left_out():
    entries = [*alloc(1, 100), *alloc(2, 7)]
    assert [one.size for one in allocations_of(entries, [Mark(1, "forward", True)])] == [7]


class Allocator:
    """Stands for `torch.cuda.memory`: notes when it is asked to record, and gives a made trace."""

    def __init__(self):
        self.entries, self.recording, self.calls = [], None, []

    def _record_memory_history(self, enabled="all", **options):
        self.recording = enabled
        self.calls.append((enabled, options))

    def _snapshot(self):
        assert self.recording == "all"
        self.entries.append(entry("snapshot", 0, 0))
        return {"device_traces": [self.entries]}


@pytest.fixture
def allocator(monkeypatch):
    made = Allocator()
    monkeypatch.setattr(torch.cuda, "memory", made)
    return made


def test_the_recording_ends_even_where_a_round_fails(allocator):
    with pytest.raises(RuntimeError), AllocatorTrace(DEVICE):
        raise RuntimeError
    assert [enabled for enabled, _ in allocator.calls] == ["all", None]
    assert allocator.calls[0][1]["context"] is None  # stacks of Python would take longer than the round


class OnDevice:
    """Stands for a tensor on the device: its bytes, and an address."""

    is_cuda, device = True, DEVICE

    def __init__(self, address, size, grad=None):
        self.address, self.size, self.grad = address, size, grad

    def untyped_storage(self):
        return self

    def data_ptr(self):
        return self.address

    def nbytes(self):
        return self.size


class Training:
    """Stands for a workload: a training step whose peak comes in the backward, after activations were freed."""

    def __init__(self, allocator):
        self.trace, self.images, self.model = allocator.entries, OnDevice(90, 48), self
        self.task = SimpleNamespace(inputs=(self.images,), tensors=lambda: (self.images, OnDevice(91, 16)))
        self.mark = lambda _: None

    def parameters(self):
        return [OnDevice(92, 100, grad=OnDevice(3, 100))]

    def buffers(self):
        return []

    def optimizer_state(self):
        return [OnDevice(93, 100)]

    @contextmanager
    def marking(self, mark):
        self.mark = mark
        yield

    def reset(self):
        self.trace += alloc(80, 5)  # before the recording's first mark

    def setup(self):
        pass

    def run(self):
        self.trace += [*alloc(1, 400), *alloc(2, 200)]
        self.mark("backward")
        self.trace += [*free(2, 200), *alloc(4, 350), *alloc(3, 100), *free(4, 350), *free(1, 400)]
        self.mark("step")
        self.trace += [*alloc(5, 40), *free(5, 40)]

    def release(self):
        self.trace += free(3, 100)


@pytest.fixture
def device(allocator, monkeypatch):
    calls = []
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: calls.append(name))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda _: {"reserved_bytes.all.peak": 2 << 20})
    monkeypatch.setattr("cnnperf.measure.memory.profile", None)  # CUPTI would stay attached
    return calls


def test_a_training_step_on_cuda_is_split_by_its_parts_and_equal_twice(allocator, device):
    training = Training(allocator)
    memory = measure_memory(training)
    assert memory.split() == {
        "peak_memory": 100 + 100 + 64 + 400 + 350 + 100,
        "parameter_memory": 100,
        "gradient_memory": 100,
        "optimizer_memory": 100,
        "activation_memory": 400,
        "other_memory": 64 + 350,
    }
    assert memory.leaked == 0
    assert measure_memory(training) == memory


def test_what_is_reserved_is_reserved_for_the_round(allocator, device):
    assert measure_memory(Training(allocator)).reserved == 2 << 20
    assert device.index("empty_cache") < device.index("reset_peak_memory_stats")


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_the_marks_of_a_workload_come_in_the_order_of_its_parts(phase):
    workload, marks = Workload(Case("lenet5", phase, batch=2)), []
    with workload.marking(marks.append):
        workload.run_once()
    workload.run_once()
    assert marks == {"forward": [], "backward": ["backward"], "train": ["backward", "step"]}[phase]


@pytest.mark.gpu
@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_on_a_device_the_split_adds_up_is_never_negative_and_equal_twice(phase):
    workload = Workload(Case("resnet18", phase, device="cuda", batch=4))
    workload.run_once()
    first, second = measure_memory(workload), measure_memory(workload)
    assert first.split() == second.split()
    assert min(first.split().values()) >= 0
    assert first.leaked == 0
    cpu = Workload(Case("resnet18", phase, batch=4))
    cpu.run_once()
    assert first.parameters == measure_memory(cpu).parameters
