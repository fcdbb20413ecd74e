"""What only a device has, on a scripted one: its own time, queues, and its GPU under load."""

from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
import torch

from cnnperf.measure import nvml
from cnnperf.measure.clock import CudaClock, QueueReading
from cnnperf.measure.device import LONGEST_DELAY, device_latency, measure_device, queued_latency
from cnnperf.measure.load import SEGMENTS, read_load
from cnnperf.measure.nvidia import lowers_clocks, slowdowns_of
from cnnperf.measure.nvml import Gpu, GpuState
from cnnperf.records.metrics import Value
from cnnperf.testing import ScriptedSubject

CYCLE = 1e-9  # seconds of the scripted device


@dataclass
class ScriptedDevice:
    """A device that takes `own` seconds for a call, which the host needs `host` seconds to launch."""

    own: float = 1e-3
    host: float = 2e-4
    waits: bool = False
    time: float = 0.0
    delays: list[int] = field(default_factory=list)

    def now(self):
        return self.time

    def read_behind(self, call, delay):
        call()
        self.delays.append(delay)
        behind = not self.waits and delay * CYCLE > self.host
        return (self.own if behind else self.own + self.host), behind

    def read_queue(self, call, calls, meanwhile=None):
        call()
        if meanwhile is not None:
            meanwhile()
        total = calls * max(self.own, self.host)
        self.time += total
        return QueueReading(calls * self.host, total)


@dataclass
class ScriptedGpu:
    """A GPU of 500 W whose counter is renewed every tenth of a second."""

    device: ScriptedDevice
    watts: float = 500.0
    bits: int = 0
    counts: bool = True

    def joules(self):
        return self.watts * (self.device.time // 0.1) * 0.1 if self.counts else None

    def state(self):
        return GpuState(1.7e9, slowdowns_of(self.bits))


def test_the_device_s_own_time_has_no_launch_in_it():
    subject, device = ScriptedSubject(), ScriptedDevice(own=1e-3, host=5e-2)
    found = device_latency(subject, device)
    assert (found.value, found.low, found.high, found.rounds) == (1e-3, 1e-3, 1e-3, 9)
    assert device.delays == sorted(device.delays)
    assert subject.events.count("setup") == len(device.delays)


def test_a_call_that_waits_for_the_device_has_no_time_of_its_own_and_ends():
    device = ScriptedDevice(waits=True)
    assert device_latency(ScriptedSubject(), device) is None
    assert max(device.delays) >= LONGEST_DELAY


@pytest.mark.parametrize(("host", "full"), [(2e-4, True), (3e-3, False)])
def test_a_queue_says_whether_it_was_the_device_s_or_the_host_s(host, full):
    found, was_full = queued_latency(ScriptedSubject(), ScriptedDevice(host=host), latency=2e-3)
    assert found.value == pytest.approx(max(1e-3, host))
    assert found.low is not None
    assert was_full is full


def test_energy_and_power_come_from_the_counter_where_it_is_renewed():
    device = ScriptedDevice()
    load = read_load(lambda: None, device, ScriptedGpu(device), latency=1e-3)
    assert load.power.value == pytest.approx(500, rel=0.1)
    assert load.energy.value == pytest.approx(0.5, rel=0.1)  # J a call of a millisecond
    assert load.energy.rounds == SEGMENTS
    assert (load.sm_clock.value, load.slowdowns) == (1.7e9, ())


def test_a_counter_that_stands_still_or_is_missing_is_given_up():
    for gpu in (ScriptedGpu(device := ScriptedDevice(), watts=0.0), ScriptedGpu(device, counts=False)):
        load = read_load(lambda: None, gpu.device, gpu, latency=1e-3)
        assert load.power is None
        assert load.energy is None
        assert load.sm_clock is not None


def test_a_case_gets_all_that_its_device_can_tell():
    device = ScriptedDevice()
    facts = measure_device(
        ScriptedSubject(), device, (Value(2e-3), Value(1.5e-3)), 10, has_setup=False, gpu=ScriptedGpu(device, bits=0x44)
    )
    assert facts.values["device_busy"].value == pytest.approx(1 / 1.5)
    assert facts.values["queued_throughput"].value == pytest.approx(10 / 1e-3)
    assert facts.values["energy"].value == pytest.approx(0.05, rel=0.1)  # J an image
    assert facts.slowdowns == ("power cap", "hardware thermal slowdown")


def test_a_backward_has_no_queue_and_without_a_library_there_is_no_energy():
    device = ScriptedDevice()
    times = (Value(2e-3), Value(1.5e-3))
    backward = measure_device(ScriptedSubject(), device, times, 10, has_setup=True, gpu=ScriptedGpu(device))
    assert set(backward.values) == {"event_latency", "device_latency", "device_busy"}
    forward = measure_device(ScriptedSubject(), device, times, 10, has_setup=False, gpu=None)
    assert "energy" not in forward.values
    assert "queued_throughput" in forward.values


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x0, ()),
        (0x1, ()),  # idle
        (0x2, ()),  # clocks that somebody set
        (0x4, ("power cap",)),
        (0x68, ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown")),
    ],
)
def test_each_reason_for_lowered_clocks_has_its_name(bits, reasons):
    assert slowdowns_of(bits) == reasons
    assert lowers_clocks(f"0x{bits:016x}") is bool(reasons)


def test_a_gpu_that_does_not_tell_why_its_clocks_are_low_is_no_error():
    assert not lowers_clocks("[N/A]")


class Library:
    """Stands for the module `pynvml` on a machine whose second GPU is the one that PyTorch sees."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, uuid, supported=True):
        self.uuid, self.supported = uuid, supported

    def nvmlInit(self):  # noqa: N802 - NVML's name
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - NVML's name
        if uuid != self.uuid:
            raise self.NVMLError
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802 - NVML's name
        return self._answer(12_500)

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802 - NVML's name
        return self._answer(1980)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802 - NVML's name
        return self._answer(0x4)

    def _answer(self, number):
        if not self.supported:
            raise self.NVMLError
        return number


@pytest.fixture
def library(monkeypatch):
    def install(made):
        monkeypatch.setattr(nvml, "find_spec", lambda _: object())
        monkeypatch.setattr(nvml, "import_module", lambda _: made)
        properties = type("Properties", (), {"uuid": "1234-5678"})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        return Gpu.of(torch.device("cuda", 0))

    return install


@pytest.mark.parametrize("prefix", ["GPU", "MIG"])
def test_the_gpu_is_found_by_the_uuid_that_pytorch_gives(library, prefix):
    gpu = library(Library(f"{prefix}-1234-5678"))
    assert gpu.joules() == 12.5
    assert gpu.state() == GpuState(1.98e9, ("power cap",))


def test_a_gpu_that_is_not_known_or_tells_nothing_is_no_error(library, monkeypatch):
    assert library(Library("GPU-9")) is None
    silent = library(Library("GPU-1234-5678", supported=False))
    assert (silent.joules(), silent.state()) == (None, None)
    monkeypatch.setattr(nvml, "find_spec", lambda _: None)
    assert Gpu.of(torch.device("cuda", 0)) is None


class Cuda:
    """Stands for `torch.cuda`: notes what is asked of the device, in order."""

    def __init__(self, monkeypatch, reached):
        self.asked = []
        note = self.asked.append

        class Event:
            def __init__(self, **_):
                pass

            def record(self, _):
                note("record")

            def query(self):
                note("query")
                return reached

            def elapsed_time(self, _):
                return 2.5  # ms

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda _: note("synchronize"))
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: note(f"sleep {cycles}"), raising=False)


@pytest.mark.parametrize("reached", [False, True])
def test_a_call_is_queued_where_the_device_has_not_come_to_it_when_the_host_is_done(monkeypatch, reached):
    cuda = Cuda(monkeypatch, reached)
    seconds, behind = CudaClock(torch.device("cuda", 0)).read_behind(lambda: cuda.asked.append("call"), 1000)
    assert cuda.asked == ["synchronize", "sleep 1000", "record", "call", "record", "query", "synchronize"]
    assert (seconds, behind) == (2.5e-3, not reached)


@pytest.mark.gpu
def test_on_a_device_its_own_time_is_within_the_event_s_and_near_the_profiler_s():
    from torch.profiler import ProfilerActivity, profile

    weight = torch.randn(4096, 4096, device="cuda")
    subject, clock = ScriptedSubject(lambda: weight @ weight), CudaClock(torch.device("cuda", 0))
    subject.run()
    own = device_latency(subject, clock)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        subject.run()
        torch.cuda.synchronize()
    kernels = sum(event.device_time_total for event in profiler.key_averages()) / 1e6
    assert own.value == pytest.approx(kernels, rel=0.1)
