"""Fused networks in tools that trace or script: the textbook formula is recorded, or the way to it is named."""

import copy

import pytest
import torch
from torch import nn

from cnnperf.errors import CnnperfError
from cnnperf.fusion import fuse, unfuse
from cnnperf.models.parts import Tail
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.resnet50 import Bottleneck
from cnnperf.models.squeeze_excitation import SEBlock


class SEModule(nn.Module):
    """Has the parts of timm's."""

    def __init__(self, channels=16, hidden=4):
        super().__init__()
        self.fc1, self.bn, self.act = nn.Conv2d(channels, hidden, 1), nn.Identity(), nn.ReLU(inplace=True)
        self.fc2, self.gate = nn.Conv2d(hidden, channels, 1), nn.Sigmoid()

    def forward(self, x):
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(x.mean((2, 3), keepdim=True))))))


SEModule.__module__ = "timm.layers.squeeze_excite"
BLOCKS = {
    "SE block": lambda: SEBlock(16, 4),
    "SE module of timm": SEModule,
    "basic block": lambda: BasicBlock(16, 16, 1, lambda channels: SEBlock(channels, 4)),
    "bottleneck": lambda: Bottleneck(16, 4, 1, lambda channels: SEBlock(channels, 4)),
}


def fused_network(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), BLOCKS[name](), nn.ReLU()).eval()
    fused = fuse(model)
    assert fused.fused
    return fused.model


WAYS = {
    "torch.fx.symbolic_trace": lambda model, x: torch.fx.symbolic_trace(model),
    "torch.jit.trace": lambda model, x: torch.jit.trace(model, (x,)),
    "torch.export": lambda model, x: torch.export.export(model, (x,)).module(),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_fused_network_is_traced_as_its_textbook_formula(name, way):
    model, x = fused_network(name), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        traced = WAYS[way](model, x)
        torch.testing.assert_close(traced(x), model(x), rtol=1e-5, atol=1e-5)
    graph = str(traced.inlined_graph if way == "torch.jit.trace" else traced.graph)
    assert "cnnperf::" not in graph  # no operator of this package, which what is saved would need
    assert "cnnperf." not in graph.replace("__torch__.cnnperf.", "")


def test_a_tail_is_traced_too():
    tail = fuse(Tail(16).eval()).model
    x, shortcut = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(tail)(x, shortcut), tail(x, shortcut), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", BLOCKS)
def test_a_fused_network_is_scripted_in_its_original_form(name):
    model, x = fused_network(name), torch.randn(2, 3, 8, 8)
    with pytest.raises(CnnperfError, match=r"use unfuse\(\) before torch\.jit\.script"):
        torch.jit.script(model)
    with torch.no_grad():
        torch.testing.assert_close(model(x), unfuse(copy.deepcopy(model))(x), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_network_that_cannot_be_copied_is_fused_in_place():
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 16, 3)), nn.ReLU(), SEBlock(16, 4))
    with pytest.raises(CnnperfError, match="inplace=True"):
        fuse(model)
    assert fuse(model, inplace=True).fused == ("2",)
