"""Planted faults: each is caught before or beside the number that it would spoil, and a clean case raises nothing."""

import pytest
import torch
from torch import nn

from cnnperf.errors import WrongResult
from cnnperf.measure.measurement import Laboratory
from cnnperf.measure.sampler import Schedule
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import create
from cnnperf.records.case import Case
from cnnperf.testing import ScriptedClock

pytestmark = pytest.mark.slow

CEILINGS = {"cpu": {"copy_bandwidth": 1e10, "matmul_rate_fp32": 1e11}}
CASE = Case("lenet5", "train", batch=4)


def laboratory(make_workload=Workload, clock=None):
    return Laboratory(
        Schedule(budget=0.1),
        ceilings=dict(CEILINGS),
        make_clock=lambda device: clock or ScriptedClock(0.01),
        make_workload=make_workload,
    )


def spoiled(spoil, only=lambda case: True):
    """Build workloads of which those that `only` accepts are spoiled."""

    def make(case):
        workload = Workload(case)
        if only(case):
            spoil(workload)
        return workload

    return make


def kinds(measured):
    return [finding.kind for finding in measured.findings]


class Spoiled(nn.Module):
    """A network whose output goes through a function."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, images):
        return self.function(self.inner(images))


def through(function):
    """Send the network's output through a function."""

    def spoil(workload):
        inner = workload.network
        workload.network = lambda images: function(inner(images))
        workload.compile = lambda: None

    return spoil


@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_nothing_fires_on_a_clean_case(phase):
    measured = laboratory().measure(CASE.replace(phase=phase))
    assert measured.findings == []
    assert measured.values["latency"].value == pytest.approx(0.01)
    assert measured.values["relative_error"].value < 1e-5


def test_nothing_fires_on_a_clean_compiled_case():
    measured = laboratory().measure(CASE.replace(engine="compile"))
    assert measured.findings == []
    assert measured.values["graphs"].value == 1
    assert measured.values["graph_breaks"].value == 0
    assert measured.values["recompiles"].value == 0
    assert measured.values["kernels"].value > 0


def test_a_sleep_in_the_timed_call_is_named_waiting():
    clock = ScriptedClock(0.001)

    def spoil(workload):
        run = workload.run
        workload.run = lambda: (run(), clock.sleep(0.009))[0]

    measured = laboratory(spoiled(spoil), clock).measure(CASE)
    assert kinds(measured) == ["waiting"]
    assert measured.values["latency"].value == pytest.approx(0.010)


def test_an_extra_convolution_changes_the_counters_of_the_case(tmp_path, monkeypatch):
    text = """
from torch import nn
from cnnperf.models.catalog import create
def make():
    return nn.Sequential(nn.Conv2d(3, 3, 1), create("lenet5"))
"""
    (tmp_path / "extra_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    clean = laboratory().measure(CASE).values
    extra = laboratory().measure(CASE.replace(architecture="extra_network:make")).values
    assert extra["parameters"].value == clean["parameters"].value + 12
    # Its forward pass, the gradient of its weight, and the gradient of LeNet's images, which needed none before.
    own, images = 2 * 9 * 32 * 32 * 4, 2 * 6 * 75 * 28 * 28 * 4
    assert extra["flop"].value - clean["flop"].value == 2 * own + images


def test_a_tensor_kept_alive_is_named_a_leak():
    kept = []

    def spoil(workload):
        run = workload.run
        workload.run = lambda: (run(), kept.append(torch.empty(250)))[0]

    measured = laboratory(spoiled(spoil)).measure(CASE)
    assert kinds(measured) == ["leak"]
    assert "1000 bytes" in measured.findings[0].seen


@pytest.mark.filterwarnings("default:The .grad attribute:UserWarning")  # Dynamo's own, at a break
def test_a_graph_break_in_a_network_of_the_catalog_is_an_error():
    def spoil(workload):
        module = Spoiled(workload.model, lambda scores: (torch._dynamo.graph_break(), scores + 0)[1])
        workload.network = torch.compile(module)
        workload.compile = lambda: None

    broken = laboratory(spoiled(spoil, only=lambda case: case.engine == "compile"))
    with pytest.raises(WrongResult, match="graph breaks, but a network of the catalog must have none"):
        broken.measure(CASE.replace(engine="compile"))


def test_a_graph_break_in_a_network_of_the_user_is_a_finding(tmp_path, monkeypatch):
    source = """
        import torch
        from torch import nn
        class Broken(nn.Module):
            def __init__(self):
                super().__init__()
                self.convolution = nn.Conv2d(3, 4, 3)
            def forward(self, images):
                features = self.convolution(images)
                torch._dynamo.graph_break()
                return features.mean((2, 3))
    """
    (tmp_path / "breaking_network.py").write_text("\n".join(line[8:] for line in source.splitlines()))
    monkeypatch.syspath_prepend(tmp_path)
    case = Case("breaking_network:Broken", "forward", engine="compile", batch=4)
    assert kinds(laboratory().measure(case)) == ["graph break"]


@pytest.mark.parametrize("phase", ["forward", "train"])
def test_a_wrong_output_is_an_error_and_is_not_timed(phase):
    clock = ScriptedClock(0.01)
    wrong = spoiled(through(lambda scores: scores * 1.001), only=lambda case: case.engine == "compile")
    with pytest.raises(WrongResult, match="is wrong: relative distance"):
        laboratory(wrong, clock).measure(CASE.replace(phase=phase, engine="compile"))
    assert clock.now() == 0


def test_a_wrong_gradient_is_an_error():
    def spoil(workload):
        workload.model.features[0].weight.register_hook(lambda gradient: gradient * 1.1)
        workload.compile = lambda: None

    wrong = spoiled(spoil, only=lambda case: case.engine == "compile")
    with pytest.raises(WrongResult, match=r"gradient of features\.0.weight is wrong"):
        laboratory(wrong).measure(CASE.replace(engine="compile"))


def test_a_gradient_reset_that_is_lost_is_an_error():
    def spoil(workload):
        workload._clear_gradients = lambda: None

    lost = spoiled(spoil, only=lambda case: case.phase == "train")
    with pytest.raises(WrongResult, match=r"gradient of .* is wrong"):
        laboratory(lost).measure(CASE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_that_is_not_finite_is_an_error(value):
    with pytest.raises(WrongResult, match="NaN or infinity"):
        laboratory(spoiled(through(lambda scores: scores * value))).measure(CASE.replace(phase="forward"))


def test_a_clock_that_jumps_is_an_error():
    with pytest.raises(WrongResult, match="the clock jumped"):
        laboratory(clock=ScriptedClock(iter([0.01] * 10 + [-1.0] * 100))).measure(CASE)


def test_a_network_that_draws_random_numbers_is_said_not_to_be_compared(tmp_path, monkeypatch):
    layers = "nn.Dropout(0.5), nn.Flatten(), nn.Linear(3072, 10)"
    text = f"from torch import nn\ndef make():\n    return nn.Sequential({layers})\n"
    (tmp_path / "dropping_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    measured = laboratory().measure(Case("dropping_network:make", "train", batch=4))
    assert kinds(measured) == ["not compared"]
    assert "relative_error" not in measured.values


def test_batch_norm_statistics_are_those_of_before_after_a_measurement():
    made = []

    def make(case):
        made.append(Workload(case))
        return made[-1]

    measured = laboratory(make).measure(Case("resnet18", "train", batch=2, image_size=8))
    assert measured.values["latency"].rounds > 0
    made[0].reset()
    fresh = dict(create("resnet18").named_buffers())
    for name, buffer in made[0].model.named_buffers():
        assert torch.equal(buffer, fresh[name]), name


def test_relocation_moves_every_parameter_and_keeps_its_value_and_identity():
    workload = Workload(CASE)
    before = {name: (id(p), p.data_ptr(), p.detach().clone()) for name, p in workload.model.named_parameters()}
    workload.relocate()
    for name, parameter in workload.model.named_parameters():
        identity, address, value = before[name]
        assert id(parameter) == identity
        assert parameter.data_ptr() != address
        assert torch.equal(parameter, value)


def test_a_timed_call_returns_nothing_that_could_stay_alive():
    for phase in ("forward", "backward", "train"):
        workload = Workload(CASE.replace(phase=phase))
        workload.setup()
        assert workload.run() is None
        assert workload.output is None
