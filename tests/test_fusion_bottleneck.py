"""Bottlenecks with Squeeze-and-Excitation: which of them are fused, and that results stay.

Errors are norms of the difference from float64, relative to the reference's norm.
"""

import copy

import pytest
import torch
from maps import FORMATS
from torch import nn

from cnnperf.fusion import block, fuse, unfuse
from cnnperf.fusion.block import FusedBottleneck
from cnnperf.fusion.native import build as native
from cnnperf.models.resnet50 import Bottleneck, ResNet50, resnet50, se_resnet50
from cnnperf.models.squeeze_excitation import SEBlock

BLOCKS = 16
FLIPPED = 5e-2  # a ReLU that falls on the other side moves gradients: those of the textbook by 2e-2 in fp32

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _kernels():
    assert native.available(), "these tests need g++"


def biased_se(channels):
    return SEBlock(channels, 4, bias=True)


def drawn(model):
    """Give a network BatchNorms that do something in training and in inference."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def two_bottlenecks():
    """Give one whose shortcut is a projection and one whose shortcut is its input."""
    torch.manual_seed(0)
    return drawn(nn.Sequential(Bottleneck(24, 16, 2, biased_se), Bottleneck(64, 16, 1, SEBlock)))


def step(model, x, *, train, run=None):
    """Give the output, and in training the gradients of x and of parameters, and the running statistics."""
    run = model if run is None else run
    model.train(train).zero_grad()
    x = x.detach().requires_grad_(train)
    with torch.set_grad_enabled(train):
        out = run(x)
    if not train:
        return [out]
    gradients = torch.autograd.grad(out.square().sum(), [x, *model.parameters()])
    return [out.detach(), *gradients, *(one.detach().double() for one in model.buffers())]


def distances(found, exact):
    pairs = zip(found, exact, strict=True)
    return [float((one.double() - other).norm()) / max(float(other.norm()), 1e-12) for one, other in pairs]


def test_every_block_of_se_resnet50_is_fused_and_given_back():
    model = se_resnet50()
    fused = fuse(model)
    kinds = [type(fused.model.get_submodule(name)) for name in fused.fused]
    assert kinds.count(FusedBottleneck) == BLOCKS
    assert len(kinds) == 2 * BLOCKS
    assert fused.left == {}
    assert list(fused.model.state_dict()) == list(model.state_dict())
    assert [type(one) for one in unfuse(fused.model).modules()] == [type(one) for one in model.modules()]


def test_a_bottleneck_without_se_has_nothing_to_fuse():
    fused = fuse(resnet50())
    assert fused.fused == ()
    assert fused.left == {}


class Changed(Bottleneck):
    """Stand for a subclass that computes something else."""


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (Changed(16, 4, 1, biased_se), "Changed is a subclass of Bottleneck"),
        (Bottleneck(16, 4, 1, lambda channels: nn.Conv2d(channels, channels, 1)), "its SE block is a Conv2d"),
    ],
)
def test_a_bottleneck_that_is_not_known_keeps_its_own_forward(one, reason):
    assert reason in fuse(nn.Sequential(one)).left["0"]


def test_the_norm_that_a_tail_needs_is_the_last_one():
    model = nn.Sequential(Bottleneck(16, 4, 1, SEBlock))
    model[0].bn2 = nn.InstanceNorm2d(4)
    assert fuse(model).left == {}
    model[0].bn3 = nn.InstanceNorm2d(16)
    assert "InstanceNorm2d, not BatchNorm2d" in fuse(model).left["0"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layout", FORMATS)
def test_bottlenecks_equal_float64_in_all_results(layout, train):
    plain = two_bottlenecks()
    x = torch.randn(3, 24, 9, 7).contiguous(memory_format=FORMATS[layout])
    exact = step(copy.deepcopy(plain).double(), x.double(), train=train)
    assert max(distances(step(fuse(copy.deepcopy(plain).double()).model, x.double(), train=train), exact)) <= 1e-12
    assert max(distances(step(fuse(plain).model, x, train=train), exact)) <= 1e-4


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_compiled_bottlenecks_equal_float64_and_the_last_convolution_may_give_the_squeeze(monkeypatch, train, linear):
    monkeypatch.setattr(block, "pays", lambda _: linear)
    torch.compiler.reset()
    plain = two_bottlenecks()
    x = torch.randn(3, 24, 9, 7)
    exact = step(copy.deepcopy(plain).double(), x.double(), train=train)
    model = fuse(plain).model
    found = step(model, x, train=train, run=torch.compile(model, fullgraph=True))
    assert max(distances(found, exact)) <= 1e-4


def test_a_compiled_bottleneck_takes_the_sums_of_its_last_convolution_alone(monkeypatch):
    monkeypatch.setattr(block, "pays", lambda _: True)
    torch.compiler.reset()
    graphs = []
    model = fuse(two_bottlenecks()).model.eval()
    with torch.no_grad():
        torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph)(torch.randn(3, 24, 9, 7))
    names = [str(node.target) for node in graphs[0].graph.nodes]
    assert sum("rectified_norm" in name for name in names) == len(model)
    assert sum("tail_scaling" in name for name in names) == len(model)


def test_in_inference_both_inner_norms_run_with_their_relu(monkeypatch):
    calls, real = [], block.operators.rectified_norm
    monkeypatch.setattr(block.operators, "rectified_norm", lambda *given: calls.append(1) or real(*given))
    model = fuse(two_bottlenecks()).model.eval()
    with torch.no_grad():
        model(torch.randn(3, 24, 9, 7))
    assert len(calls) == 2 * len(model)


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return drawn(se_resnet50()), torch.randn(2, 3, 64, 64)


@pytest.mark.parametrize("train", [True, False])
def test_the_whole_network_equals_the_textbook_s_eagerly_and_compiled(whole, train):
    plain, x = whole
    exact = step(copy.deepcopy(plain).double(), x.double(), train=train)
    assert max(distances(step(fuse(copy.deepcopy(plain).double()).model, x.double(), train=train), exact)) <= 1e-10
    torch.compiler.reset()
    eager, traced = fuse(plain).model, fuse(plain).model
    # What Inductor generates is tested with two blocks; here its compilation would take minutes.
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    for found in (step(eager, x, train=train), step(traced, x, train=train, run=compiled)):
        errors = distances(found, exact)
        assert errors[0] <= 1e-3
        assert max(errors) <= FLIPPED


def test_a_network_of_bottlenecks_takes_any_image_that_is_large_enough():
    with torch.device("meta"):
        model, images = ResNet50(), torch.empty(2, 3, 224, 224)
    assert model(images).shape == (2, 1000)
    assert model.stage4(model.stage3(model.stage2(torch.empty(2, 256, 56, 56, device="meta")))).shape == (2, 2048, 7, 7)
