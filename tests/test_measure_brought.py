"""Networks that users bring: what runs in plain PyTorch is measured, and what could not be done for it is said."""

import random

import numpy as np
import pytest
import torch
from test_measure_faults import kinds, laboratory

from cnnperf.errors import NetworkFailed
from cnnperf.measure.network_state import NetworkState
from cnnperf.measure.workload import Workload
from cnnperf.models.modes import preserved_modes
from cnnperf.records.case import Case

NETWORKS = '''
import random
import warnings
from collections import namedtuple
from dataclasses import dataclass

import numpy
import torch
from torch import nn


def head(channels=8):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def plain(first):
    return nn.Sequential(first, nn.ReLU(), head())


def weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plain(nn.utils.weight_norm(nn.Conv2d(3, 8, 3)))


def parametrized():
    return plain(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)))


def spectral():
    return plain(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)))


def lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))


class Coordinates(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("grid", None)
        self.body = plain(nn.Conv2d(5, 8, 3))

    def forward(self, x):
        if self.grid is None:
            lines = [torch.linspace(-1, 1, size, device=x.device, dtype=x.dtype) for size in x.shape[-2:]]
            self.grid = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
        return self.body(torch.cat([x, self.grid.expand(x.shape[0], -1, -1, -1)], dim=1))


class NewBuffer(nn.Module):
    """Replaces its buffer in each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        out = self.body[0](x)
        self.mean = out.mean((0, 2, 3)).detach()
        return self.body[2](self.body[1](out))


Outputs = namedtuple("Outputs", "logits auxiliary")


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.main, self.side = nn.Conv2d(3, 8, 3), head(), head()

    def pack(self, main, side):
        return Outputs(main, side)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.pack(self.main(x), self.side(x)) if self.training else self.main(x)


class InDictionary(Auxiliary):
    def pack(self, main, side):
        return {"labels": main.argmax(1), "logits": main, "auxiliary": side}


@dataclass
class Packed:
    logits: torch.Tensor
    loss: float = 0.0


class InDataClass(Auxiliary):
    def pack(self, main, side):
        return Packed(main + 0 * side)


class EarlyExit(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.more, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), head()

    def forward(self, x):
        x = self.stem(x).relu()
        early = self.head(x)
        return early if early.softmax(1).amax() > 0.99 else self.head(self.more(x))


class ByMask(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 10)

    def forward(self, x):
        means = x.mean((2, 3))
        kept = self.linear(means[means[:, 0] > -100])
        return kept


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, images):
        return self.body(images.sub_(0.45).div_(0.225))


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.body(x)


class Complex(nn.Module):
    """Filters in the frequency domain."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(3, 32, 17, dtype=torch.cfloat))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.head = head(3)

    def forward(self, x):
        return self.head(torch.fft.irfft2(torch.fft.rfft2(x) * self.filter))


class OnlyFloat(nn.Module):
    """Does not run in float64."""

    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return self.body(x.float())


class Tied(nn.Module):
    """Two parameters that are views of one storage."""

    def __init__(self):
        super().__init__()
        whole = torch.randn(2, 8, 3, 1, 1)
        self.first, self.second = nn.Parameter(whole[0]), nn.Parameter(whole[1])
        self.head = head()

    def forward(self, x):
        return self.head(nn.functional.conv2d(x, self.first) + nn.functional.conv2d(x, self.second))


class Unused(nn.Module):
    """Has a lazy layer that is never called."""

    def __init__(self):
        super().__init__()
        self.body, self.never = plain(nn.Conv2d(3, 8, 3)), nn.LazyLinear(3)

    def forward(self, x):
        return self.body(x)


class Counting(nn.Module):
    """Keeps state that no module knows of."""

    def __init__(self):
        super().__init__()
        self.body, self.calls = plain(nn.Conv2d(3, 8, 3)), 0

    def forward(self, x):
        self.calls += 1
        return self.body(x) * (1 + self.calls % 2)


class DrawsFromPython(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return self.body(x) * (1 + random.random())


class DrawsFromNumpy(DrawsFromPython):
    def forward(self, x):
        return self.body(x) * (1 + float(numpy.random.rand()))


class Double(nn.Module):
    """Keeps some tensors in double precision."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.ones(10, dtype=torch.float64))
        self.body = plain(nn.Conv2d(3, 8, 3))

    def forward(self, x):
        return (self.body(x).double() + self.offset).float()


class Video(nn.Module):
    """Has convolutions of three dimensions."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv3d(3, 8, (1, 3, 3)), head()

    def forward(self, x):
        return self.head(self.body(x[:, :, None])[:, :, 0])


class Pooled(nn.Module):
    """Cannot be trained with one image."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.out = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.out(self.norm(self.stem(x).mean((2, 3), keepdim=True)).flatten(1))


class Recurrent(nn.Module):
    """Flattens its weights into one storage on a GPU, and checks their addresses."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(96, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.out(self.rnn(x.transpose(1, 2).flatten(2))[0][:, -1])
'''
EXPECTED = {
    "weight_norm": set(),
    "parametrized": set(),
    "spectral": set(),
    "lazy": set(),
    "Coordinates": set(),
    "NewBuffer": set(),
    "Auxiliary": {"loss"},
    "InDictionary": {"loss"},
    "InDataClass": {"loss"},
    "EarlyExit": set(),
    "ByMask": set(),
    "Normalized": {"input changed"},
    "Segmenter": {"loss"},
    "Complex": set(),
    "OnlyFloat": {"not compared"},
    "Tied": set(),
    "Unused": set(),
    "Counting": {"not compared"},
    "DrawsFromPython": {"not compared"},
    "DrawsFromNumpy": {"not compared"},
    "Double": set(),
    "Video": set(),
    "Pooled": set(),
    "Recurrent": set(),
}
"""Network to the kinds of findings of a training step."""


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    (tmp_path / "brought_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)


def case(name, phase="train", **axes):
    return Case(f"brought_networks:{name}", phase, **{"batch": 4, **axes})


@pytest.mark.parametrize("name", EXPECTED)
def test_a_network_that_runs_in_plain_pytorch_is_measured(name):
    measured = laboratory().measure(case(name))
    assert set(kinds(measured)) == EXPECTED[name]
    assert measured.values["latency"].value == pytest.approx(0.01)
    assert measured.values["peak_memory"].value > 0
    assert measured.values["flop"].value > 0  # counted while it computes, where the meta device does not do


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_measured_in_inference_and_backward_too(name):
    for phase in ("forward", "backward"):
        found = set(kinds(laboratory().measure(case(name, phase))))
        assert found == EXPECTED[name] - ({"loss"} if phase == "forward" else set()), phase


@pytest.mark.parametrize("name", ["lazy", "Coordinates", "Auxiliary", "Normalized"])
@pytest.mark.slow
def test_it_is_measured_compiled_and_compared_with_float64(name):
    measured = laboratory().measure(case(name, engine="compile"))
    assert measured.values["relative_error"].value < 1e-3


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_complex_and_integer_tensors_keep_their_kind(precision, layout):
    model = Workload(case("Complex", "forward", precision=precision, layout=layout)).model
    assert model.filter.dtype == torch.cfloat
    assert model.steps.dtype == torch.int64
    assert model.head[2].weight.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_a_training_with_one_image_fails_with_the_networks_own_sentence_and_others_do_not():
    with pytest.raises(NetworkFailed) as caught:
        laboratory().measure(case("Pooled", batch=1))
    assert str(caught.value).startswith("ValueError: Expected more than 1 value per channel when training")
    assert "(brought_networks.py:" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.trace.startswith("Traceback")
    assert laboratory().measure(case("Pooled", "forward", batch=1)).values["latency"].value > 0


def test_a_wrong_compiled_form_is_refused_also_where_only_eager_execution_is_known():
    from cnnperf.errors import WrongResult
    from cnnperf.measure.correctness import References

    def make(each):
        return Workload(each)

    workload = make(case("OnlyFloat", "forward", engine="compile"))
    inner = workload.model
    workload.network = lambda images: inner(images) * 1.01
    workload.run_once()
    with pytest.raises(WrongResult, match="output is wrong"):
        References(make).verify(workload)


def test_inputs_that_a_network_changes_are_the_same_in_each_round():
    workload = Workload(case("Normalized"))
    first = workload.images.clone()
    for _ in range(3):
        workload.setup()
        torch.testing.assert_close(workload.images, first, rtol=0, atol=0)
        workload.run()
    assert not torch.equal(workload.images, first)
    workload.reset()
    torch.testing.assert_close(workload.images, first, rtol=0, atol=0)


def test_views_of_one_storage_stay_views_of_it():
    workload = Workload(case("Tied"))
    before = [parameter.detach().clone() for parameter in workload.model.parameters()]
    workload.run_once()
    workload.relocate()
    first, second = workload.model.first, workload.model.second
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    for parameter, value in zip(workload.model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=0, atol=0)


def test_other_tensors_get_other_addresses_and_their_first_values():
    workload = Workload(case("Video"))
    before = {name: (tensor.data_ptr(), tensor.detach().clone()) for name, tensor in workload.model.named_parameters()}
    workload.run_once()
    workload.relocate()
    for name, tensor in workload.model.named_parameters():
        torch.testing.assert_close(tensor.detach(), before[name][1], rtol=0, atol=0)
    assert any(tensor.data_ptr() != before[name][0] for name, tensor in workload.model.named_parameters())


def test_a_buffer_that_changes_its_shape_gets_its_first_values_back():
    model = torch.nn.Module()
    model.register_buffer("seen", torch.arange(3.0))
    state = NetworkState(model)
    model.seen = torch.zeros(2, 2)
    state.restore()
    assert model.seen.tolist() == [0, 1, 2]


def test_a_buffer_that_was_made_in_inference_mode_can_be_restored():
    model = torch.nn.Module()
    model.register_buffer("seen", torch.arange(3.0))
    state = NetworkState(model)
    with torch.inference_mode():
        model.seen = torch.zeros(3)
    state.restore()
    assert model.seen.tolist() == [0, 1, 2]
    assert not model.seen.is_inference()


def test_a_module_that_changes_global_modes_when_it_is_imported_changes_them_for_itself_alone(tmp_path):
    text = (
        "import random, numpy, torch\nfrom torch import nn\n"
        "torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64)\n"
        "torch.manual_seed(0); numpy.random.seed(0); random.seed(0); torch.set_num_threads(1)\n"
        "def make():\n    torch.set_grad_enabled(False)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).float()\n"
    )
    (tmp_path / "switching_off.py").write_text(text)
    threads = torch.get_num_threads()
    states = (random.getstate(), torch.get_rng_state(), np.random.get_state()[2])  # noqa: NPY002 - what networks use
    measured = laboratory().measure(Case("switching_off:make", "train", batch=4))
    assert measured.values["latency"].value > 0
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == threads
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.random.get_state()[2] == states[2]  # noqa: NPY002 - what networks use


def test_modes_are_restored_after_an_error_too():
    def fail():
        with preserved_modes():
            torch.set_grad_enabled(False)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert torch.is_grad_enabled()


def test_modes_that_a_call_changes_are_those_of_before_in_the_next_case(tmp_path):
    text = (
        "import torch\nfrom torch import nn\n"
        "class Off(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.linear = nn.Linear(3, 10)\n"
        "    def forward(self, x):\n        torch.set_grad_enabled(False)\n"
        "        return self.linear(x.mean((2, 3)))\n"
    )
    (tmp_path / "switching_in_calls.py").write_text(text)
    off = Case("switching_in_calls:Off", "forward", batch=4)
    assert laboratory().measure(off).values["latency"].value > 0
    assert torch.is_grad_enabled()
    assert kinds(laboratory().measure(case("Video"))) == []
