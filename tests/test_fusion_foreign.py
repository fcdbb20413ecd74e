"""SE modules of other libraries: recognized by their parts, equal in value and gradient, and given back.

The stand-ins below have the names, parts and forward of the originals, which need not be installed.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from cnnperf.fusion import fuse, unfuse
from cnnperf.fusion.excitation import Excitation, squeeze_and_excite
from cnnperf.fusion.foreign import FusedForeignSE
from cnnperf.fusion.gate import gate_map

pytestmark = pytest.mark.slow


class SqueezeExcitation(nn.Module):
    """Stand for torchvision's."""

    def __init__(self, channels, hidden, activation=nn.ReLU, scale_activation=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.activation, self.scale_activation = activation(), scale_activation()

    def forward(self, x):
        hidden = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(hidden)) * x


class SEModule(nn.Module):
    """Stand for timm's."""

    def __init__(self, channels, hidden, activation=nn.ReLU, gate=nn.Sigmoid, bias=True, add_maxpool=False, norm=None):
        super().__init__()
        self.add_maxpool = add_maxpool
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1, bias=bias), nn.Conv2d(hidden, channels, 1, bias=bias)
        self.bn = nn.Identity() if norm is None else norm(hidden)
        self.act, self.gate = activation(inplace=True), gate()

    def forward(self, x):
        squeezed = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(squeezed)))))


class SqueezeExcite(nn.Module):
    """Stand for the one in timm's EfficientNet blocks; also with Linear products."""

    def __init__(self, channels, hidden, activation=nn.SiLU, gate=nn.Sigmoid, linear=False):
        super().__init__()
        self.linear = linear
        product = nn.Linear if linear else (lambda c, d: nn.Conv2d(c, d, 1))
        self.conv_reduce, self.conv_expand = product(channels, hidden), product(hidden, channels)
        self.act1, self.gate = activation(), gate()

    def forward(self, x):
        squeezed = x.mean((2, 3), keepdim=not self.linear)
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(squeezed))))
        return x * (gate[:, :, None, None] if self.linear else gate)


SqueezeExcitation.__module__ = "torchvision.ops.misc"
SEModule.__module__ = "timm.layers.squeeze_excite"
SqueezeExcite.__module__ = "timm.models._efficientnet_blocks"

BUILDERS = {
    "torchvision": lambda: SqueezeExcitation(20, 6),
    "torchvision silu hardsigmoid": lambda: SqueezeExcitation(20, 6, nn.SiLU, nn.Hardsigmoid),
    "timm": lambda: SEModule(20, 6),
    "timm without bias": lambda: SEModule(20, 6, bias=False),
    "timm hardsigmoid": lambda: SEModule(20, 6, gate=nn.Hardsigmoid),
    "efficientnet": lambda: SqueezeExcite(20, 6),
    "efficientnet linear": lambda: SqueezeExcite(20, 6, linear=True),
}
SHAPES = [(3, 20, 7, 5), (1, 20, 1, 1), (2, 20, 33, 31)]


def results_of(module, x, grad):
    x = x.detach().requires_grad_()
    out = module(x)
    return [out.detach(), *torch.autograd.grad(out, [x, *module.parameters()], grad)]


def far_apart(found, exact, tolerance):
    return [
        float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)
        if float((a.double() - b).norm()) > tolerance * float(b.norm())
    ]  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("builder", BUILDERS)
def test_values_and_gradients_equal_the_original_s_in_float64(builder, shape, layout):
    torch.manual_seed(1)
    original = BUILDERS[builder]()
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=2.0)  # wide enough for hard sigmoids to be flat on both sides
    fused = fuse(nn.Sequential(original))
    assert fused.fused == ("0",)
    x, grad = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    exact = results_of(copy.deepcopy(original).double(), x.double(), grad.double())
    assert not far_apart(results_of(fused.model[0], x, grad), exact, 1e-5)


def test_hard_sigmoids_are_tested_where_they_are_flat_and_where_they_are_not():
    torch.manual_seed(1)
    module = BUILDERS["timm hardsigmoid"]()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=2.0)
    x = torch.randn(SHAPES[0])
    gate = module(torch.ones_like(x)) if x is None else module(x) / x
    assert (gate.abs() < 1e-6).any()
    assert ((gate - 1).abs() < 1e-6).any()
    assert ((gate > 0.01) & (gate < 0.99)).any()


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("gate", ["sigmoid", "hardsigmoid"])
def test_extreme_and_missing_numbers_come_out_as_pytorch_has_them(activation, gate):
    reduce, expand = torch.eye(16), torch.eye(16)
    for value in (-1e4, -90.0, -3.0, 0.0, 3.0, 90.0, 1e4, float("nan")):
        x = torch.full((2, 16, 2, 2), value)
        excitation = Excitation(reduce, expand, activation=activation, gate=gate)
        torch.testing.assert_close(
            gate_map(x, excitation), squeeze_and_excite(x, excitation), equal_nan=True, rtol=1e-5, atol=1e-30
        )


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (SEModule(20, 6, add_maxpool=True), "its add_maxpool is on"),
        (SEModule(20, 6, norm=nn.BatchNorm2d), "its bn is a BatchNorm2d"),
        (SEModule(20, 6, activation=nn.ReLU6), "its act is a ReLU6; known are ReLU, SiLU, Swish"),
        (SqueezeExcitation(20, 6, scale_activation=nn.Tanh), "its scale_activation is a Tanh"),
    ],
)
def test_what_computes_something_else_is_left_with_its_reason(module, reason):
    fused = fuse(nn.Sequential(module))
    assert fused.fused == ()
    assert reason in fused.left["0"]
    assert type(fused.model[0]) is type(module)


def changed(name, part):
    module = SqueezeExcitation(20, 6)
    setattr(module, name, part)
    return module


def watched():
    module = SqueezeExcitation(20, 6)
    module.activation.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (changed("fc1", nn.Conv2d(20, 6, 3, padding=1)), "its fc1 is not a 1x1 convolution"),
        (changed("fc1", nn.Conv2d(20, 6, 1, padding=1)), "its fc1 is not a 1x1 convolution"),
        (changed("fc2", nn.Identity()), "its fc2 is a Identity, not a Linear or Conv2d"),
        (changed("avgpool", nn.AdaptiveAvgPool2d(2)), "its avgpool is a AdaptiveAvgPool2d"),
        (changed("avgpool", None), "it has no avgpool"),
        (watched(), "its activation has hooks"),
    ],
)
def test_a_module_whose_parts_were_changed_is_left_with_its_reason(module, reason):
    assert reason in fuse(nn.Sequential(module)).left["0"]


def test_a_class_of_that_name_from_elsewhere_is_left():
    class SEModule(nn.Module):
        pass

    assert "is not known" in fuse(nn.Sequential(SEModule())).left["0"]


def test_parameters_hooks_and_state_stay_and_unfuse_gives_the_class_back():
    model = nn.Sequential(SEModule(20, 6))
    calls, before = [], list(model.parameters())
    model[0].register_forward_hook(lambda *_: calls.append(1))
    keys = list(model.state_dict())
    fuse(model, inplace=True)
    assert isinstance(model[0], FusedForeignSE)
    assert "timm.layers.squeeze_excite.SEModule" in repr(model)
    model(torch.randn(2, 20, 3, 3))
    assert calls == [1]
    assert list(model.state_dict()) == keys
    assert type(unfuse(model)[0]) is SEModule
    assert "fused_from" not in vars(model[0])
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))


def test_a_fused_module_survives_copying_compiling_and_exporting():
    module = fuse(nn.Sequential(SqueezeExcitation(20, 6))).model.eval()
    x = torch.randn(2, 20, 3, 3)
    with torch.no_grad():
        expected = module(x)
        torch.testing.assert_close(copy.deepcopy(module)(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), expected)
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), expected)


def test_a_fused_module_is_pickled_by_the_name_of_its_original(monkeypatch):
    module = fuse(SEModule(20, 6)).model
    monkeypatch.setattr(SEModule, "__module__", __name__)  # where pickle can find the stand-in
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(SEModule=SEModule))
    twin = pickle.loads(pickle.dumps(module))
    assert type(unfuse(twin)) is SEModule
