"""A residual block with Squeeze-and-Excitation whose passes over maps are fused: what follows either convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnperf.fusion import operators
from cnnperf.fusion.linear_squeeze import has_known_squeeze, squeeze_of_convolution, sums_for
from cnnperf.fusion.norm import frozen
from cnnperf.fusion.tail import fused_tail, infers_natively
from cnnperf.models.resnet import BasicBlock

# Where taking the squeeze from sums of the second convolution's input beats reading its output, measured on two cores
# by scripts/crossovers.py (docs/fusion.md, "Inference"): only in a compiled network, whose second reading of a map that
# large does not come from cache, and with so many pixels a channel that the product with the weight is small beside it.
LINEAR_NUMBERS = 6 << 20
LINEAR_PIXELS_PER_CHANNEL = 16


class FusedBasicBlock(BasicBlock):
    """Be a `BasicBlock` with SE whose tail is one fused function; parameters and state_dict are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform a feature map; the shapes are those of `BasicBlock`."""
        between, squeezed = norm_and_relu(self.conv1(x), self.bn1, self.conv2)
        out = self.conv2(between)
        return fused_tail(out, self.shortcut(x), self.bn2, self.se, squeezed)  # type: ignore[arg-type]  # an SE block, by `fuse`


def norm_and_relu(x: Tensor, norm: nn.BatchNorm2d, convolution: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Return relu(norm(x)), and where it pays the squeeze of what a convolution will make of it.

    Args:
        x: N x C x H x W.
        norm: BatchNorm over C channels.
        convolution: What comes next.

    Returns:
        N x C x H x W; and the means of the convolution's output, N x C', or None.
    """
    compiling = torch.compiler.is_compiling()
    # Autocast would compute the product that follows in half precision.
    linear = compiling and pays(x) and has_known_squeeze(convolution) and not torch.is_autocast_enabled(x.device.type)
    fused = linear or not compiling  # a compiler fuses these two by itself
    if not (fused and infers_natively(norm, x)):
        return torch.relu(norm(x)), None
    out, sums = operators.rectified_norm(x, *frozen(norm, x))
    if not linear:
        return out, None
    weight: Tensor = convolution.weight  # type: ignore[assignment]  # of a convolution, as was seen
    return out, squeeze_of_convolution(sums_for(weight, sums), weight, x.shape[2] * x.shape[3])


def pays(x: Tensor) -> bool:
    """Tell whether the linear squeeze of a convolution of this map, N x C x H x W, is the faster way."""
    return x.numel() >= LINEAR_NUMBERS and x.shape[2] * x.shape[3] >= LINEAR_PIXELS_PER_CHANNEL * x.shape[1]
