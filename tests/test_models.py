"""Tests of the networks: parameter counts, shapes, gradients and initialization."""

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from cnnperf.errors import OptionError
from cnnperf.models.catalog import create
from cnnperf.models.initialization import he_initialize, seeded
from cnnperf.models.lenet import LeNet5
from cnnperf.models.resnet import ResNet18
from cnnperf.models.resnet50 import DEPTHS, ResNet50, resnet50, se_resnet50
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.models.stacks import Stack, StackBlock


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def images(batch: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": LeNet5,
    "lenet5_avg": lambda: LeNet5(pooling="average"),
    "plain_stack": lambda: Stack(blocks=2, channels=8, shortcut=False),
    "residual_stack": lambda: Stack(blocks=2, channels=8, shortcut=True),
    "resnet18": ResNet18,
    "se_resnet18": lambda: ResNet18(se_block=SEBlock),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    with seeded(0):
        return NETWORKS[request.param]()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_lenet5_has_the_same_parameters_with_either_pooling(pooling: str) -> None:
    assert parameters_of(LeNet5(pooling=pooling)) == 62_006


@pytest.mark.parametrize("width", [1, 4, 16])
def test_a_narrow_resnet18_is_the_same_network_with_fewer_channels(width: int) -> None:
    narrow, full = ResNet18(width=width), ResNet18()
    shapes = {name: value.shape for name, value in narrow.named_parameters()}
    assert list(shapes) == [name for name, _ in full.named_parameters()]
    for name, value in full.named_parameters():
        kept = {3, 10} if name in ("conv1.weight", "fc.weight", "fc.bias") else set()
        expected = [size if size in kept or place > 1 else size * width // 64 for place, size in enumerate(value.shape)]
        assert list(shapes[name]) == expected
    assert narrow(images()).shape == (2, 10)


def test_a_resnet18_without_channels_is_refused() -> None:
    with pytest.raises(OptionError, match="a ResNet-18 of width 0 cannot be built; use at least 1"):
        ResNet18(width=0)


def test_a_pooling_that_lenet5_does_not_know_is_refused_with_those_it_does() -> None:
    with pytest.raises(OptionError, match="pooling 'median' is unknown; use one of: max, average"):
        LeNet5(pooling="median")


@pytest.mark.parametrize(("pooling", "layer"), [("max", nn.MaxPool2d), ("average", nn.AvgPool2d)])
def test_lenet5_pools_twice_in_the_way_asked_for(pooling: str, layer: type[nn.Module]) -> None:
    pools = [each for each in LeNet5(pooling=pooling).modules() if isinstance(each, layer)]
    assert len(pools) == 2


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(("blocks", "channels"), [(1, 4), (3, 8), (10, 64)])
def test_the_parameters_of_a_stack_follow_its_formula(blocks: int, channels: int, shortcut: bool) -> None:
    formula = blocks * (18 * channels**2 + 6 * channels) + 28 * channels + 10 * channels + 10
    assert parameters_of(Stack(blocks, channels, shortcut=shortcut)) == formula


def test_a_stack_has_ten_blocks_at_64_channels_unless_told_otherwise() -> None:
    assert parameters_of(Stack(shortcut=True)) == 743_562


@pytest.mark.parametrize(("blocks", "channels"), [(0, 8), (2, 0)])
def test_an_empty_stack_is_refused(blocks: int, channels: int) -> None:
    with pytest.raises(OptionError, match="both must be at least 1"):
        Stack(blocks, channels, shortcut=True)


@pytest.mark.parametrize("shortcut", [True, False])
def test_a_stack_block_whose_convolutions_give_zero_passes_on_only_the_shortcut(shortcut: bool) -> None:
    block = StackBlock(4, shortcut=shortcut)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), torch.relu(x) if shortcut else torch.zeros_like(x), rtol=0, atol=0)


def test_plain_and_residual_stacks_of_one_seed_have_the_same_parameters() -> None:
    states = []
    for shortcut in (True, False):
        with seeded(3):
            states.append(Stack(2, 8, shortcut=shortcut).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_resnet18_has_the_parameters_of_the_paper_with_the_small_stem() -> None:
    assert parameters_of(ResNet18()) == 11_173_962


def test_squeeze_and_excitation_adds_two_weights_to_each_block_of_resnet18() -> None:
    assert parameters_of(ResNet18(se_block=SEBlock)) == 11_261_002
    assert sum(2 * 2 * c * (c // 16) for c in (64, 128, 256, 512)) == 11_261_002 - 11_173_962


def test_resnet50_has_the_parameters_of_torchvision_s() -> None:
    assert parameters_of(resnet50()) == 25_557_032


def test_squeeze_and_excitation_adds_two_weights_and_two_biases_to_each_block_of_resnet50() -> None:
    assert parameters_of(se_resnet50()) == 28_088_024
    blocks = zip(DEPTHS, (256, 512, 1024, 2048), strict=True)
    assert sum(n * (2 * c * (c // 16) + c + c // 16) for n, c in blocks) == 28_088_024 - 25_557_032


def test_a_bottleneck_halves_the_resolution_in_its_3x3_convolution() -> None:
    block = ResNet50().stage2[0]
    assert [one.stride for one in (block.conv1, block.conv2, block.conv3)] == [(1, 1), (2, 2), (1, 1)]
    assert block.shortcut[0].stride == (2, 2)


@pytest.mark.parametrize("name", ["resnet50", "se_resnet50"])
def test_resnet50_is_measured_by_the_name_of_its_factory(name: str) -> None:
    network = create(f"cnnperf.models.resnet50:{name}").eval()
    with torch.no_grad():
        assert network(images(2)).shape == (2, 1000)


def test_resnet18_keeps_the_resolution_in_its_stem_and_first_stage_and_halves_it_thrice() -> None:
    network = ResNet18().eval()
    x = network.conv1(images(1))
    shapes = [tuple(x.shape)]
    for stage in (network.stage1, network.stage2, network.stage3, network.stage4):
        x = stage(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(1, 64, 32, 32), (1, 64, 32, 32), (1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4)]


def test_an_se_block_sees_the_second_batch_norm_before_the_shortcut_is_added() -> None:
    class Nothing(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.channels = channels

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0

    block = ResNet18(se_block=Nothing).stage1[0]
    x = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(block(x), torch.relu(x), rtol=0, atol=0)


def test_an_se_block_follows_the_equations_of_the_paper() -> None:
    block = SEBlock(32, reduction=4)
    x = torch.randn(3, 32, 5, 7)
    squeezed = x.flatten(2).mean(2)
    hidden = (squeezed @ block.reduce.weight.T).clamp(min=0)
    gate = 1 / (1 + torch.exp(-hidden @ block.expand.weight.T))
    torch.testing.assert_close(block(x), torch.einsum("nchw,nc->nchw", x, gate))


@pytest.mark.parametrize(("channels", "reduction"), [(8, 16), (8, 0), (8, -1)])
def test_a_reduction_that_leaves_no_hidden_unit_is_refused(channels: int, reduction: int) -> None:
    with pytest.raises(OptionError, match=f"8 channels cannot have reduction {reduction}; .* from 1 to 8"):
        SEBlock(channels, reduction)


@pytest.mark.parametrize("batch", [1, 3])
def test_each_network_gives_ten_finite_scores_an_image(network: nn.Module, batch: int) -> None:
    scores = network.eval()(images(batch))
    assert scores.shape == (batch, 10)
    assert scores.isfinite().all()


def test_each_network_passes_a_gradient_to_every_parameter(network: nn.Module) -> None:
    loss = nn.functional.cross_entropy(network.train()(images()), torch.tensor([1, 7]))
    torch.autograd.backward(loss)
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_each_network_survives_copying_and_pickling(network: nn.Module) -> None:
    expected = network.eval()(images())
    for twin in (deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(twin(images()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [16, 40])
@pytest.mark.parametrize("build", [ResNet18, lambda: Stack(1, 8, shortcut=True)])
def test_residual_networks_take_images_of_other_sizes(build: type[nn.Module], size: int) -> None:
    assert build().eval()(images(2, size)).shape == (2, 10)


def test_he_initialization_scales_weights_by_their_fan_in() -> None:
    convolution, linear = nn.Conv2d(64, 128, 3), nn.Linear(512, 256)
    with seeded(0):
        he_initialize(nn.Sequential(convolution, linear))
    for layer, fan_in in ((convolution, 64 * 9), (linear, 512)):
        # The standard error of a standard deviation from n draws is its 1/sqrt(2n)th: below 0.3 % here.
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.015)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_seeding_restores_the_generator_and_the_default_device_even_after_an_error() -> None:
    def draw_and_fail() -> None:
        with seeded(1):
            torch.randn(3)
            raise KeyError

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.empty(1).device == torch.get_default_device()
