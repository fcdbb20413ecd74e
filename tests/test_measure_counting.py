"""Counters: two counts of one network agree to the last digit, and what was planted is named."""

import itertools
import sys
import types

import pytest
import torch
from torch import nn

from cnnperf.errors import WrongResult
from cnnperf.measure.counting import _count, count
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case
from cnnperf.runs.verdicts import counter_changes, fingerprint_changes

pytestmark = pytest.mark.slow

NUMBERS = itertools.count()


def network(extra=(), dtype=None):
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(4 * 8 * 8, 5)]
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *extra, *head).to(dtype)


class Breaks(nn.Module):
    """Let a graph break."""

    def forward(self, x):
        torch._dynamo.graph_break()
        return x


class Keeps(nn.Module):
    """Keep what went through it."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def forward(self, x):
        self.kept.append(x.detach() + 1)
        return x


class Twice(nn.Module):
    """Compute what nobody asked for."""

    def forward(self, x):
        return x + 0 * torch.sin(x).detach()


@pytest.fixture
def count_of(monkeypatch):
    def run(make, workload=Workload, **axes):
        name = f"planted{next(NUMBERS)}"  # a network is built once for each name
        module = types.ModuleType(name)
        module.make = make
        monkeypatch.setitem(sys.modules, name, module)
        case = Case(f"{name}:make", **{"batch": 2, "image_size": 8, "phase": "train", **axes})
        return case, _count(case, workload)

    return run


def changes_of(count_of, make, **how):
    case, before = count_of(network, **how)
    _, after = count_of(make, **how)
    return {
        change.name: change.kind
        for change in (
            *counter_changes(case, before["counters"], after["counters"]),
            *fingerprint_changes(case, before["fingerprints"], after["fingerprints"]),
        )
    }


@pytest.mark.parametrize("engine", ["eager", "compile"])
@pytest.mark.parametrize("phase", ["forward", "backward", "train"])
def test_two_counts_of_one_network_agree_to_the_last_digit(phase, engine):
    case = Case("lenet5", batch=2, phase=phase, engine=engine)
    assert count(case) == count(case)


def test_an_added_convolution_is_worse_in_work_memory_and_operators(count_of):
    changes = changes_of(count_of, lambda: network([nn.Conv2d(4, 4, 3, padding=1)]))
    assert {changes[name] for name in ("flop", "traffic", "peak_memory", "operators", "saved_memory")} == {"worse"}
    assert changes["parameters"] == "changed"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_lost_graph_is_named(count_of):
    changes = changes_of(count_of, lambda: network([Breaks()]), engine="compile")
    assert changes["graph_breaks"] == changes["uncompiled"] == "worse"


def test_bytes_that_compiled_kernels_move_are_counted(count_of):
    _, found = count_of(network, engine="compile")
    assert found["counters"]["moved"] > 0
    assert found["counters"]["kernels"] > 0


def test_a_tensor_that_is_kept_alive_is_named(count_of):
    changes = changes_of(count_of, lambda: network([Keeps()]))
    assert changes["leaked_memory"] == "worse"


def test_an_operator_whose_result_changes_nothing_is_named(count_of):
    changes = changes_of(count_of, lambda: network([Twice()]))
    assert changes["operators"] == "worse"
    assert "output" not in changes


def test_other_parameters_change_the_results_and_no_counter(count_of):
    def other():
        model = network()
        with torch.no_grad():
            model[0].weight.mul_(1.01)
        return model

    changes = changes_of(count_of, other)
    assert set(changes.values()) == {"changed"}
    assert "output" in changes


def test_gradients_that_are_not_reset_are_a_wrong_result(count_of):
    class Forgets(Workload):
        def _clear_gradients(self):
            pass

    with pytest.raises(WrongResult, match="gradient of"):
        count_of(network, workload=Forgets, phase="backward")


def test_another_dtype_inside_changes_the_bytes(count_of):
    class Halved(nn.Module):
        def forward(self, x):
            return x.bfloat16().to(x.dtype)

    changes = changes_of(count_of, lambda: network([Halved()]))
    assert changes["operators"] == "worse"
    assert "output" in changes
