"""Residual blocks of timm: recognized by their parts, equal in value and gradient, and given back.

The stand-ins below have the names, parts and forward of the originals, which need not be installed.
"""

import copy

import pytest
import torch
from torch import nn

from cnnperf.fusion import fuse, unfuse
from cnnperf.fusion.foreign import FusedForeignSE
from cnnperf.fusion.foreign_block import FusedForeignBlock
from cnnperf.fusion.norm import is_batch_norm

pytestmark = pytest.mark.slow

CHANNELS = 32
FORMATS = [torch.contiguous_format, torch.channels_last]


class SEModule(nn.Module):
    """Stand for timm's."""

    def __init__(self, channels, activation=nn.ReLU, gate=nn.Sigmoid, add_maxpool=False):
        super().__init__()
        self.add_maxpool = add_maxpool
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)
        self.bn, self.act, self.gate = nn.Identity(), activation(inplace=True), gate()

    def forward(self, x):
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(x.mean((2, 3), keepdim=True))))))


class Block(nn.Module):
    """Hold what both blocks of timm share."""

    def __init__(self, *convolutions, se=SEModule, downsample=None):
        super().__init__()
        for index, convolution in enumerate(convolutions, 1):
            setattr(self, f"conv{index}", convolution)
            setattr(self, f"bn{index}", nn.BatchNorm2d(convolution.out_channels))
            setattr(self, f"act{index}", nn.ReLU(inplace=True))
        self.drop_block, self.aa = nn.Identity(), nn.Identity()
        self.se = se(convolutions[-1].out_channels) if se else None
        self.downsample, self.drop_path = downsample, None

    def forward(self, x):
        shortcut = x
        for index in range(1, self.count):
            x = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(x))
            x = self.get_submodule(f"act{index}")(self.drop_block(x))
        x = self.get_submodule(f"bn{self.count}")(self.get_submodule(f"conv{self.count}")(self.aa(x)))
        if self.se is not None:
            x = self.se(x)
        if self.drop_path is not None:
            x = self.drop_path(x)
        x += shortcut if self.downsample is None else self.downsample(shortcut)
        return self.get_submodule(f"act{self.count}")(x)


class BasicBlock(Block):
    """Stand for timm's."""

    count = 2

    def __init__(self, **parts):
        convolutions = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False) for _ in range(2))
        super().__init__(*convolutions, **parts)


class Bottleneck(Block):
    """Stand for timm's, that of ResNeXt too."""

    count = 3

    def __init__(self, stride=1, groups=1, **parts):
        super().__init__(
            nn.Conv2d(CHANNELS, 8, 1, bias=False),
            nn.Conv2d(8, 8, 3, stride=stride, padding=1, groups=groups, bias=False),
            nn.Conv2d(8, CHANNELS, 1, bias=False),
            **parts,
        )


class BatchNormAct2d(nn.BatchNorm2d):
    """Stand for timm's, with the activation inside."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


SEModule.__module__ = "timm.layers.squeeze_excite"
BasicBlock.__module__ = Bottleneck.__module__ = "timm.models.resnet"
BatchNormAct2d.__module__ = "timm.layers.norm_act"


def halved():
    return nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1, stride=2, bias=False), nn.BatchNorm2d(CHANNELS))


BUILDERS = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "of ResNeXt": lambda: Bottleneck(groups=4),
    "with a stride": lambda: Bottleneck(stride=2, downsample=halved()),
}


def model_of(block):
    """Give a block of which nothing is as it was made."""
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.5, 0.5)
    return nn.Sequential(block)


def results_of(model, x):
    """Give output, gradients, running statistics, and the output in inference."""
    x = x.detach().requires_grad_()
    out = model.train()(x)
    gradients = torch.autograd.grad(out.square().sum(), [x, *model.parameters()])
    buffers = [one.detach().clone().double() for one in model.buffers()]
    with torch.no_grad():
        return [out.detach(), *gradients, *buffers, model.eval()(x)]


def distances(found, exact):
    pairs = zip(found, exact, strict=True)
    return [float((one.double() - other).norm()) / max(float(other.norm()), 1e-12) for one, other in pairs]


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("builder", BUILDERS)
def test_all_results_equal_the_original_s_in_float64(builder, layout):
    torch.manual_seed(1)
    model = model_of(BUILDERS[builder]())
    fused = fuse(model)
    assert set(fused.fused) == {"0", "0.se"}
    assert fused.left == {}
    assert list(fused.model.state_dict()) == list(model.state_dict())
    x = torch.randn(3, CHANNELS, 8, 6).contiguous(memory_format=layout)
    exact = results_of(copy.deepcopy(model).double(), x.double())
    assert max(distances(results_of(copy.deepcopy(fused.model).double(), x.double()), exact)) <= 1e-12
    assert max(distances(results_of(fused.model, x), exact)) <= 1e-4


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_block_is_one_graph_with_a_fused_tail():
    torch.compiler.reset()
    graphs = []
    model = fuse(model_of(Bottleneck())).model
    x = torch.randn(3, CHANNELS, 8, 6)
    torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph, fullgraph=True)(x)
    assert any("tail_training" in str(node.target) for node in graphs[0].graph.nodes)
    expected = copy.deepcopy(model)(x)
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), expected)


def changed(kind, **parts):
    block = kind()
    for name, part in parts.items():
        setattr(block, name, part)
    return block


def hooked(part):
    part.register_forward_hook(lambda *_: None)
    return part


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (changed(Bottleneck, aa=nn.AvgPool2d(2)), "its aa is a AvgPool2d"),
        (changed(BasicBlock, drop_block=nn.Dropout2d()), "its drop_block is a Dropout2d"),
        (changed(Bottleneck, drop_path=nn.Dropout()), "its drop_path is a Dropout"),
        (changed(Bottleneck, drop_path=hooked(nn.Identity())), "its drop_path is a Identity"),
        (changed(Bottleneck, act1=nn.SiLU()), "its act1 is a SiLU, not ReLU"),
        (changed(Bottleneck, act3=nn.SiLU()), "its act3 is a SiLU, not ReLU"),
        (changed(Bottleneck, act2=hooked(nn.ReLU())), "its act2 has hooks"),
        (changed(Bottleneck, bn3=nn.GroupNorm(4, CHANNELS)), "its last normalization is a GroupNorm"),
        (changed(Bottleneck, bn3=BatchNormAct2d(CHANNELS, nn.ReLU())), "its last normalization is a BatchNormAct2d"),
        (changed(BasicBlock, bn2=hooked(nn.BatchNorm2d(CHANNELS))), "its bn2 has hooks"),
        (changed(BasicBlock, se=hooked(SEModule(CHANNELS))), "its se has hooks"),
        (changed(BasicBlock, se=SEModule(CHANNELS, nn.SiLU)), "ReLU and Sigmoid"),
        (changed(BasicBlock, se=SEModule(CHANNELS, gate=nn.Hardsigmoid)), "ReLU and Sigmoid"),
        (changed(BasicBlock, conv1=None), "it has no conv1"),
    ],
)
def test_a_block_with_a_part_that_a_tail_leaves_no_place_for_keeps_its_forward_and_its_se_is_fused(block, reason):
    fused = fuse(nn.Sequential(block))
    assert fused.fused == ("0.se",)
    assert reason in fused.left["0"]
    assert type(fused.model[0]) is type(block)


@pytest.mark.parametrize(
    ("se", "reason"),
    [
        (SEModule(CHANNELS, add_maxpool=True), "its se cannot be fused: its add_maxpool is on"),
        (nn.Conv2d(CHANNELS, CHANNELS, 1), "its se is a Conv2d, which has no known fused form"),
    ],
)
def test_a_block_whose_se_is_not_known_is_left_with_the_reason(se, reason):
    fused = fuse(nn.Sequential(changed(Bottleneck, se=se)))
    assert fused.fused == ()
    assert fused.left["0"] == reason


def test_a_block_without_se_has_nothing_to_fuse():
    fused = fuse(nn.Sequential(Bottleneck(se=None)))
    assert fused.fused == ()
    assert fused.left == {}


def test_a_norm_of_timm_without_an_activation_is_batch_norm():
    model = model_of(changed(Bottleneck, bn3=BatchNormAct2d(CHANNELS, nn.Identity())))
    fused = fuse(model)
    assert "0" in fused.fused
    x = torch.randn(3, CHANNELS, 8, 6, dtype=torch.float64)
    exact = results_of(copy.deepcopy(model).double(), x)
    assert max(distances(results_of(fused.model.double(), x), exact)) <= 1e-12
    assert not is_batch_norm(BatchNormAct2d(CHANNELS, nn.ReLU()))


def test_parameters_hooks_and_state_stay_and_unfuse_gives_the_classes_back():
    model = model_of(Bottleneck())
    calls, before = [], list(model.parameters())
    model[0].register_forward_hook(lambda *_: calls.append(1))
    fuse(model, inplace=True)
    assert type(model[0]) is FusedForeignBlock
    assert type(model[0].se) is FusedForeignSE
    assert "timm.models.resnet.Bottleneck" in repr(model)
    model(torch.randn(2, CHANNELS, 4, 4))
    assert calls == [1]
    assert set(fuse(model).left.values()) == {"it is fused already"}
    assert [type(one) for one in (unfuse(model)[0], model[0].se)] == [Bottleneck, SEModule]
    assert "fused_from" not in vars(model[0])
    assert all(one is other for one, other in zip(before, model.parameters(), strict=True))
