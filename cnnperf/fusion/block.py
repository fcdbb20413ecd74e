"""Residual blocks with Squeeze-and-Excitation whose operations after each convolution are fused."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cnnperf.fusion import maps, operators
from cnnperf.fusion.linear_squeeze import has_known_squeeze, squeeze_of_convolution, sums_for
from cnnperf.fusion.modules import NotScriptable, has_hooks, is_traced
from cnnperf.fusion.native import functions as native
from cnnperf.fusion.norm import BatchNorm, frozen, is_batch_norm
from cnnperf.fusion.tail import SE, fused_tail
from cnnperf.models.parts import Tail
from cnnperf.models.resnet import BasicBlock
from cnnperf.models.resnet50 import Bottleneck

# Taking the squeeze from sums of the last convolution's input beats reading its output from these sizes on, measured
# for 3x3 convolutions on two cores by scripts/crossovers.py (docs/fusion.md, "Inference"). It needs a compiled network,
# where a second read of such a large map does not come from cache, and so many pixels per channel that the product with
# the weight is cheap in comparison.
LINEAR_NUMBERS = 6 << 20
LINEAR_PIXELS_PER_CHANNEL = 16

Layer = tuple[nn.Module, BatchNorm]
"""A convolution and the BatchNorm that follows it."""


class FusedBasicBlock(NotScriptable, BasicBlock):
    """`BasicBlock` with SE whose tail is one fused function; parameters and state_dict are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map; the shapes are those of `BasicBlock`."""
        if is_traced(x):
            return super().forward(x)
        layers = ((self.conv1, self.bn1), (self.conv2, self.bn2))
        return fused_block(x, layers, self.se, self.shortcut)  # type: ignore[arg-type]  # an SE block, by `fuse`


class FusedBottleneck(NotScriptable, Bottleneck):
    """`Bottleneck` with SE whose tail is one fused function; parameters and state_dict are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map; the shapes are those of `Bottleneck`."""
        if is_traced(x):
            return super().forward(x)
        layers = ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3))
        return fused_block(x, layers, self.se, self.shortcut)  # type: ignore[arg-type]  # an SE block, by `fuse`


class FusedTail(NotScriptable, Tail):
    """`Tail` as one fused function; parameters and state_dict are the same."""

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Transform a map and its shortcut, both N x C x H x W."""
        if is_traced(x):
            return super().forward(x, shortcut)
        return fused_tail(x, shortcut, self.norm, self.se)


def fused_block(x: Tensor, layers: tuple[Layer, ...], se: SE, shortcut: Callable[[Tensor], Tensor]) -> Tensor:
    """Return relu(se(norm(convolution(...))) + shortcut(x)), with ReLU between the layers.

    Args:
        x: N x C x H x W.
        layers: Convolutions and their BatchNorms, at least two.
        se: SE block of the tail, see `fused_tail`.
        shortcut: Function from x to a map of the output's shape.

    Returns:
        N x C' x H' x W'.
    """
    (first, norm), *others = layers
    out, squeezed = first(x), None
    for convolution, next_norm in others:
        is_last = convolution is layers[-1][0]
        out, squeezed = norm_and_relu(out, norm, convolution if is_last else None)
        out, norm = convolution(out), next_norm
    return fused_tail(out, shortcut(x), norm, se, squeezed)


def norm_and_relu(x: Tensor, norm: BatchNorm, convolution: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Return relu(norm(x)) and, where it is faster, the squeeze of the next convolution's output.

    Args:
        x: N x C x H x W.
        norm: BatchNorm over C channels.
        convolution: The next convolution; None if the squeeze of its output is not needed.

    Returns:
        N x C x H x W, and the means of the convolution's output, N x C', or None.
    """
    compiling = torch.compiler.is_compiling()
    # Autocast would compute the product that follows in half precision.
    plain = not torch.is_autocast_enabled(x.device.type)
    linear = compiling and plain and pays(x) and convolution is not None and has_known_squeeze(convolution)
    fused = linear or not compiling  # a compiler fuses norm and ReLU itself
    if not fused or _reason_to_leave_norm(norm, x) is not None:
        return torch.relu(norm(x)), None
    out, sums = operators.rectified_norm(x, *frozen(norm, x))
    if not linear:
        return out, None
    weight: Tensor = convolution.weight  # type: ignore[union-attr, assignment]  # checked by has_known_squeeze
    return out, squeeze_of_convolution(sums_for(weight, sums), weight, x.shape[2] * x.shape[3])


def _reason_to_leave_norm(norm: BatchNorm, x: Tensor) -> str | None:
    """Return why BatchNorm and ReLU of a map are not computed in one C++ kernel; None if they are."""
    if not is_batch_norm(norm) or has_hooks(norm):
        return "it is not BatchNorm alone"
    if norm.training or norm.running_mean is None or maps.wants_gradient(x, norm.weight, norm.bias):
        return "the kernel is for inference without gradients"
    if torch.compiler.is_exporting():
        return "an exported program must run without cnnperf"
    unreadable = None if torch.compiler.is_compiling() else maps.not_readable(x)
    return unreadable or native.takes_norm(x, norm)


def pays(x: Tensor) -> bool:
    """Return whether the linear squeeze of a convolution of this map, N x C x H x W, is faster."""
    return x.numel() >= LINEAR_NUMBERS and x.shape[2] * x.shape[3] >= LINEAR_PIXELS_PER_CHANNEL * x.shape[1]
