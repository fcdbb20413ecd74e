"""Parts of a network as architectures, which take feature maps: SE alone, the tail of a residual block, a block.

Their names begin with `part:`. With each comes a copy of a map, one pass of reading and one of writing, beside which
the passes of the others are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnperf.errors import OptionError
from cnnperf.models.architecture import Architecture
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.spelling import did_you_mean
from cnnperf.models.squeeze_excitation import SEBlock

PREFIX = "part:"
CHANNELS = 64
"""Channels of a part at its default width: those of the first stage of ResNet-18."""

SENET = "Hu et al., 2017, section 3, https://arxiv.org/abs/1709.01507"
RESNET = "He et al., 2015, section 3.3, https://arxiv.org/abs/1512.03385; Hu et al., 2017, figure 3"


class Tail(nn.Module):
    """Tail of a residual block, relu(se(norm(x)) + shortcut), operator by operator."""

    def __init__(self, channels: int) -> None:
        """Build BatchNorm and SE block for this many channels."""
        super().__init__()
        self.norm, self.se = nn.BatchNorm2d(channels), SEBlock(channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return torch.relu(self.se(self.norm(x)) + shortcut)


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, __: Tensor) -> None:
        return None


class Copy(nn.Module):
    """Copy of a map; its backward does nothing."""

    def __init__(self, _: int) -> None:
        """Build the copy, which is the same for any number of channels."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Copy a map, N x C x H x W."""
        return cast(Tensor, _Copied.apply(x))  # type: ignore[no-untyped-call]


def _block(se_block: Callable[[int], nn.Module] | None, channels: int) -> nn.Module:
    return BasicBlock(channels, channels, 1, se_block)


def _torchvision(channels: int) -> nn.Module:
    operators = import_module("torchvision.ops")
    module = cast(Any, operators.SqueezeExcitation(channels, max(1, channels // 16)))
    module.fc1.bias = module.fc2.bias = None  # like the others
    return cast(nn.Module, module)


def _timm(channels: int) -> nn.Module:
    layers = import_module("timm.layers")
    return cast(nn.Module, layers.SEModule(channels, rd_channels=max(1, channels // 16), bias=False))


def _part(name: str, build: Callable[[int], nn.Module], summary: str, source: str, maps: int = 1) -> Architecture:
    return Architecture(
        name=f"{PREFIX}{name}",
        build=partial(build, CHANNELS),
        build_at=build,
        summary=summary,
        source=source,
        channels=CHANNELS,
        classes=None,
        maps=maps,
    )


_OWN = (
    _part("se", SEBlock, "Squeeze-and-Excitation alone", SENET),
    _part("tail", Tail, "tail of a residual block: BatchNorm, SE, shortcut, ReLU", RESNET, maps=2),
    _part("block", partial(_block, SEBlock), "residual block of two 3x3 convolutions with SE", RESNET),
    _part("block_plain", partial(_block, None), "the same residual block without SE", RESNET),
    *(_part(f"{name}_copy", Copy, "copy of a map", "PyTorch's clone") for name in ("se", "tail")),
)
_LIBRARIES = {
    "torchvision": _part("se_torchvision", _torchvision, "torchvision.ops.SqueezeExcitation", SENET),
    "timm": _part("se_timm", _timm, "timm.layers.SEModule", SENET),
}


def parts() -> dict[str, Architecture]:
    """Return the parts that can be built here by name; those of a library only where it is installed."""
    found = (row for library, row in _LIBRARIES.items() if find_spec(library))
    return {row.name: row for row in (*_OWN, *found)}


def from_parts(name: str) -> Architecture:
    """Resolve `part:NAME`.

    Raises:
        OptionError: If there is no such part here.
    """
    known = parts()
    if name not in known:
        raise OptionError(f"part {name!r} is unknown{did_you_mean(name, known)}; choose from: {', '.join(known)}")
    return known[name]
