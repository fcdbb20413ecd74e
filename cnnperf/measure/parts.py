"""Parts of a network made runnable in each of their forms: SE alone, the tail of a residual block, block, network."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from cnnperf.fusion import FusedSEBlock, fuse, fused_tail, textbook_tail
from cnnperf.measure.precisions import DTYPES
from cnnperf.measure.workload import MEMORY_FORMATS, PADDING_BYTES
from cnnperf.models.resnet import BasicBlock, ResNet18
from cnnperf.models.squeeze_excitation import SEBlock

Shape = tuple[int, int, int, int]
Build = Callable[[int], nn.Module]
"""Makes a module from its number of channels."""


class TextbookTail(nn.Module):
    """relu(se(norm(x)) + shortcut), operator by operator."""

    def __init__(self, channels: int) -> None:
        """Build BatchNorm and SE block for this many channels."""
        super().__init__()
        self.norm, self.se = nn.BatchNorm2d(channels), SEBlock(channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return textbook_tail(x, shortcut, self.norm, self.se)


class FusedTail(TextbookTail):
    """The same in one function."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return fused_tail(x, shortcut, self.norm, self.se)


class Recipe(NamedTuple):
    """Recipe of a form of a part: what builds it, and whether torch.compile takes it."""

    build: Build
    compiled: bool


@dataclass(frozen=True)
class Kind:
    """A part of a network.

    Attributes:
        textbook: Builds it from PyTorch's operators.
        fused: Builds ours.
        plain: Builds it without Squeeze-and-Excitation, or None where nothing would be left.
        maps: How many maps it takes.
        libraries: Library to what builds the same part from it.
    """

    textbook: Build
    fused: Build
    plain: Build | None = None
    maps: int = 1
    libraries: tuple[tuple[str, Build], ...] = ()


def _block(se_block: Build | None, channels: int) -> nn.Module:
    return BasicBlock(channels, channels, 1, se_block)


def _network(se_block: Build | None, _: int) -> nn.Module:
    return ResNet18(se_block)


def _fused(build: Build, channels: int) -> nn.Module:
    return fuse(build(channels), inplace=True).model


def _torchvision(channels: int) -> nn.Module:
    operators = import_module("torchvision.ops")
    module = cast(Any, operators.SqueezeExcitation(channels, max(1, channels // 16)))
    module.fc1.bias = module.fc2.bias = None  # like the others
    return cast(nn.Module, module)


def _timm(channels: int) -> nn.Module:
    layers = import_module("timm.layers")
    return cast(nn.Module, layers.SEModule(channels, rd_channels=max(1, channels // 16), bias=False))


_SE_BLOCK, _SE_NETWORK = partial(_block, SEBlock), partial(_network, SEBlock)
PARTS = {
    "se": Kind(SEBlock, FusedSEBlock, libraries=(("torchvision", _torchvision), ("timm", _timm))),
    "tail": Kind(TextbookTail, FusedTail, maps=2),
    "block": Kind(_SE_BLOCK, partial(_fused, _SE_BLOCK), partial(_block, None)),
    "network": Kind(_SE_NETWORK, partial(_fused, _SE_NETWORK), partial(_network, None)),
}
"""The parts; `network` is ResNet-18, which takes images."""


def forms_of(part: str) -> dict[str, Recipe]:
    """Return the forms of a part that can be measured here, `fused` last."""
    kind = PARTS[part]
    forms = {"eager": Recipe(kind.textbook, compiled=False), "compile": Recipe(kind.textbook, compiled=True)}
    for library, build in kind.libraries:
        if find_spec(library):
            forms |= {library: Recipe(build, compiled=False), f"{library}-compile": Recipe(build, compiled=True)}
    if kind.plain is not None:
        forms |= {"plain": Recipe(kind.plain, compiled=False), "plain-compile": Recipe(kind.plain, compiled=True)}
        forms |= {"fused-compile": Recipe(kind.fused, compiled=True)}
    return forms | {"fused": Recipe(kind.fused, compiled=False)}


@dataclass
class BufferSet:
    """Tensors of size N x C x H x W that one call reads, and what it leaves.

    Attributes:
        maps: Inputs of the part.
        grad: Gradient of the output, which training begins its backward with.
        output: Output of the last call on this set, where the part keeps it.
    """

    maps: list[Tensor]
    grad: Tensor = field(default_factory=lambda: torch.empty(0))
    output: Tensor | None = None

    def clear(self) -> None:
        """Drop the output and the gradients of the maps."""
        self.output = None
        for tensor in self.maps:
            tensor.grad = None


class Part:
    """One form of a part as a subject to sample: forward and backward in training, forward alone in inference."""

    def __init__(
        self,
        part: str,
        form: str,
        shape: Shape,
        *,
        trains: bool,
        layout: str,
        precision: str,
        device: str = "cpu",
        sets: int = 1,
    ) -> None:
        """Build the part and its maps.

        Args:
            part: A key of `PARTS`.
            form: A key of what `forms_of` gives for it.
            shape: N, C, H, W.
            trains: Whether to train or to infer.
            layout: `contiguous` or `channels_last`.
            precision: `fp32` or `bf16`: of maps and parameters.
            device: Where.
            sets: Number of sets of buffers, of which `turn` takes one after the other. With several, each keeps the
                output and gradients of its last call, so that the next call writes them elsewhere.
        """
        build, compiled = forms_of(part)[form]
        format_ = MEMORY_FORMATS[layout]
        torch.manual_seed(0)
        module = cast(Any, build(shape[1]).train(trains)).to(device, DTYPES[precision], memory_format=format_)
        self._parameters = list(module.parameters())
        self._random = random.Random(0)  # noqa: S311 - places memory, hides nothing
        self._padding: list[Tensor] = []
        self._trains = trains
        self._keeps = sets > 1
        self._present = 0
        self.sets = [BufferSet(_draw(shape, PARTS[part].maps, device, precision, format_)) for _ in range(sets)]
        with torch.no_grad():
            for one in self.sets:
                one.grad = torch.randn_like(module(*one.maps))
        for tensor in self._every_map():
            tensor.requires_grad_(trains and part != "network")  # images want no gradient
        self.module = cast(Callable[..., Tensor], torch.compile(module, dynamic=False) if compiled else module)

    def turn(self) -> None:
        """Go on to the next set of buffers."""
        self._present = (self._present + 1) % len(self.sets)

    def setup(self) -> None:
        """Clear the gradients of the parameters, and what the last call on the present set left."""
        self.sets[self._present].clear()
        for parameter in self._parameters:
            parameter.grad = None

    def run(self) -> None:
        """Run the part once on the present set."""
        present = self.sets[self._present]
        if self._trains:
            output = self.module(*present.maps)
            cast(Any, output).backward(present.grad)
        else:
            with torch.no_grad():
                output = self.module(*present.maps)
        if self._keeps:
            present.output = output.detach()

    def output(self) -> Tensor:
        """Return what the part makes of the maps of its first set."""
        with torch.no_grad():
            return self.module(*self.sets[0].maps)

    def results(self) -> list[Tensor]:
        """Return what the last call on the first set left: the output, and in training the gradients of the maps."""
        first = self.sets[0]
        return [one for one in (first.output, *(tensor.grad for tensor in first.maps)) if one is not None]

    def relocate(self) -> None:
        """Put all buffers at fresh addresses behind a random amount of padding."""
        self.setup()
        for one in self.sets:
            one.clear()
        self._padding.clear()
        for tensor in (*self._every_map(), *(one.grad for one in self.sets)):
            size = self._random.randrange(PADDING_BYTES)
            self._padding.append(torch.empty(size, dtype=torch.uint8, device=tensor.device))
            tensor.data = tensor.detach().clone()

    def _every_map(self) -> list[Tensor]:
        return [tensor for one in self.sets for tensor in one.maps]


def _draw(shape: Shape, maps: int, device: str, precision: str, format_: torch.memory_format) -> list[Tensor]:
    drawn = (torch.randn(shape).to(device, DTYPES[precision]) for _ in range(maps))
    return [one.contiguous(memory_format=format_) for one in drawn]


class Copy:
    """Copy of a map: one pass of reading and one of writing, with which the passes of the others are compared."""

    def __init__(self, shape: Shape, precision: str, device: str = "cpu", sets: int = 1) -> None:
        """Allocate both maps, so many times."""
        sources = [torch.randn(shape).to(device, DTYPES[precision]) for _ in range(sets)]
        self._sets = [(source, torch.empty_like(source)) for source in sources]

    def setup(self) -> None:
        """Do nothing."""

    def run(self) -> None:
        """Copy."""
        source, target = self._sets[0]
        target.copy_(source)

    def turn(self) -> None:
        """Go on to the next two maps."""
        self._sets.append(self._sets.pop(0))

    def relocate(self) -> None:
        """Put all maps at fresh addresses."""
        self._sets = [(source.clone(), target.clone()) for source, target in self._sets]
