"""A tour of the architectures in teaching order; all numbers come from the networks themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cnnperf.models.catalog import create
from cnnperf.models.lenet import LeNet5
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.squeeze_excitation import SEBlock
from cnnperf.report.layout import grid, wrap
from cnnperf.studies.gradient_flow import Setting, measure_flow

Step = tuple[str, str, int]
"""Name of a layer, shape of its output without the batch, and number of its parameters."""

HEADER = ("layer", "output", "parameters")
SHOWN = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, BasicBlock)
SMALL = Setting(num_blocks=10)


def tour_lines() -> list[str]:
    """Return the tour: LeNet-5, plain against residual stacks, ResNet-18 without and with Squeeze-and-Excitation."""
    return [*_lenet(), "", *_stacks(), "", *_resnet()]


def steps_of(network: nn.Module, image: Tensor, shown: tuple[type[nn.Module], ...] = SHOWN) -> list[Step]:
    """Return the layers of a network in the order in which an image passes them.

    Args:
        network: Network of images.
        image: Image of shape (N, C, H, W).
        shown: Classes of the layers to return; layers inside such a layer are left out.
    """
    steps: list[Step] = []
    candidates = [layer for layer in network.modules() if isinstance(layer, shown)]
    inside = {id(part) for layer in candidates for part in layer.modules() if part is not layer}

    def record(layer: nn.Module, _: object, output: Tensor) -> None:
        steps.append((_layer_name(layer), _shape(output), _parameters(layer)))

    layers = [layer for layer in candidates if id(layer) not in inside]
    handles = [layer.register_forward_hook(record) for layer in layers]
    network.eval()
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return steps


def _lenet() -> Iterator[str]:
    yield "1. LeNet-5 (LeCun et al., 1998): two convolutions extract features, three linear layers classify"
    yield from _layer_table("lenet5")
    yield from wrap(
        "Pooling halves height and width twice. Replacing max pooling by average pooling changes no parameter "
        f"({_parameters(LeNet5('average')):,} either way); `cnnperf study pooling` measures whether it changes "
        "accuracy."
    )


def _stacks() -> Iterator[str]:
    yield "2. Depth: ten equal blocks, without and with identity shortcuts (He et al., 2015)"
    counts = [_parameters(create(name)) for name in ("plain_stack", "residual_stack")]
    yield from wrap(f"Both have {counts[0]:,} parameters: a shortcut adds {counts[1] - counts[0]}.")
    plain, residual = (float(measure_flow(family, SMALL, [0])) for family in ("plain", "residual"))
    yield from wrap(
        f"The mean absolute gradient at the input of ten blocks is {plain:.2f} without and {residual:.2f} with "
        "shortcuts (one seed, batch statistics, summed output). Larger is not healthier: at 30 blocks the plain one is "
        "in the thousands. `cnnperf study gradient-flow` measures how it grows, `cnnperf study depth` which stack "
        "becomes more accurate."
    )


def _resnet() -> Iterator[str]:
    yield "3. ResNet-18 (He et al., 2015, with the stem for small images): eight residual blocks in four stages"
    yield from _layer_table("resnet18")
    plain, gated = _parameters(create("resnet18")), _parameters(create("se_resnet18"))
    gates = [module for module in create("se_resnet18").modules() if isinstance(module, SEBlock)]
    yield ""
    yield "4. Squeeze-and-Excitation (Hu et al., 2017): each block's channels are scaled by a gate"
    added = gated - plain
    yield from wrap(
        f"{len(gates)} gates add {added:,} parameters to {plain:,}: {added / plain:.2%}. The smallest "
        f"has {gates[0].reduce.in_features} channels and {gates[0].reduce.out_features} hidden units, the largest "
        f"{gates[-1].reduce.in_features} and {gates[-1].reduce.out_features}. `pytest benchmarks/test_resnet.py` "
        "measures their cost in time, `cnnperf study squeeze-excitation` their gain in accuracy."
    )


def _layer_table(name: str) -> Iterator[str]:
    network, image = create(name), torch.zeros(1, 3, 32, 32)
    rows: Sequence[Step] = [("image", _shape(image), 0), *steps_of(network, image)]
    yield from grid(HEADER, [(label, shape, f"{count:,}") for label, shape, count in rows])
    yield f"  {_parameters(network):,} parameters in all"


def _layer_name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        return f"convolution {layer.kernel_size[0]}x{layer.kernel_size[1]}"
    if isinstance(layer, BasicBlock):
        return "residual block, two convolutions 3x3"
    return {nn.Linear: "linear", nn.MaxPool2d: "max pooling 2x2", nn.AvgPool2d: "average pooling 2x2"}[type(layer)]


def _shape(tensor: Tensor) -> str:
    return " x ".join(str(size) for size in tensor.shape[1:])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
