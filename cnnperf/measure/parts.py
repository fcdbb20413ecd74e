"""Parts of a network made runnable: Squeeze-and-Excitation alone, and the tail of a residual block."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnperf.fusion import FusedSEBlock, fused_tail, textbook_tail
from cnnperf.measure.workload import DTYPES, MEMORY_FORMATS, PADDING_BYTES
from cnnperf.models.squeeze_excitation import SEBlock

Shape = tuple[int, int, int, int]


class Tail(nn.Module):
    """Compute relu(se(norm(x)) + shortcut) operator by operator."""

    tail = staticmethod(textbook_tail)

    def __init__(self, channels: int) -> None:
        """Build BatchNorm and SE block for this many channels."""
        super().__init__()
        self.norm, self.se = nn.BatchNorm2d(channels), SEBlock(channels)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        return self.tail(x, shortcut, self.norm, self.se)


class FusedTail(Tail):
    """Compute the same in one function."""

    tail = staticmethod(fused_tail)


PARTS: dict[str, tuple[type[nn.Module], type[nn.Module], int]] = {
    "se": (SEBlock, FusedSEBlock, 1),
    "tail": (Tail, FusedTail, 2),
}
"""Part to its textbook form, its fused form, and the number of maps that it takes."""


class Part:
    """Run one form of a part, forward and backward in training, forward alone in inference; a subject of the sampler."""

    def __init__(self, part: str, form: str, shape: Shape, *, trains: bool, layout: str, precision: str) -> None:
        """Build the part and its maps.

        Args:
            part: A key of `PARTS`.
            form: `eager` or `compile` for the textbook form, `fused` for ours.
            shape: N, C, H, W.
            trains: Whether to train or to infer.
            layout: `contiguous` or `channels_last`.
            precision: `fp32` or `bf16`: of maps and parameters.
        """
        textbook, fused, maps = PARTS[part]
        torch.manual_seed(0)
        module = (fused if form == "fused" else textbook)(shape[1]).to(DTYPES[precision]).train(trains)  # type: ignore[call-arg]
        self.module = cast(Callable[..., Tensor], torch.compile(module, dynamic=False) if form == "compile" else module)
        self._parameters = list(module.parameters())
        self._random = random.Random(0)  # noqa: S311 - places memory, hides nothing
        self._padding: list[Tensor] = []
        self._trains = trains
        drawn = [torch.randn(shape, dtype=torch.float32).to(DTYPES[precision]) for _ in range(maps + 1)]
        placed = [one.contiguous(memory_format=MEMORY_FORMATS[layout]) for one in drawn]
        self.maps = [one.requires_grad_(trains) for one in placed[:-1]]
        self.grad = placed[-1]

    def setup(self) -> None:
        """Clear all gradients."""
        for tensor in (*self.maps, *self._parameters):
            tensor.grad = None

    def run(self) -> None:
        """Run the part once."""
        if self._trains:
            cast(Any, self.module(*self.maps)).backward(self.grad)
            return
        with torch.no_grad():
            self.module(*self.maps)

    def relocate(self) -> None:
        """Put the maps at fresh addresses behind a random amount of padding."""
        self.setup()
        self._padding.clear()
        for tensor in (*self.maps, self.grad):
            self._padding.append(torch.empty(self._random.randrange(PADDING_BYTES), dtype=torch.uint8))
            tensor.data = tensor.detach().clone()
