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
    "Discontinuous": {"not compared"},
    "DrawsFromPython": {"not compared"},
    "DrawsFromNumpy": {"not compared"},
    "Double": set(),
    "Video": set(),
    "Pooled": set(),
    "Recurrent": set(),
}
"""Network to the kinds of findings of a training step."""


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


def test_a_module_that_changes_global_modes_when_it_is_imported_changes_them_for_itself_alone(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
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


def test_modes_that_a_call_changes_are_those_of_before_in_the_next_case(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
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


def test_complex_parameters_count_with_all_of_their_bytes():
    from cnnperf.measure.work import count_work

    bytes_of_filter = 3 * 32 * 17 * 8
    assert count_work(case("Complex", "forward")).live > bytes_of_filter
