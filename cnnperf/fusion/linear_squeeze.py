"""The squeeze of a convolution's output from sums of its input, without a pass over the output.

A convolution is linear: the mean of its output is its weight times the mean of the part of its input that each tap
covers. For a 1x1 convolution that is the input's mean. For a padded 3x3 convolution there are nine sums: the total
without a border row, a border column or both (docs/fusion.md, "Inference").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnperf.fusion.modules import has_hooks

TAPS = (1, 3)
"""Supported kernel sizes, with a stride of 1: 1x1, and 3x3 with a padding of 1."""


def window_sums(u: Tensor, size: int) -> Tensor:
    """Return the sum of a map over the pixels that each tap of a convolution covers.

    Args:
        u: Input of a convolution of stride 1 that keeps height and width, N x C x H x W.
        size: Size of its kernel, 1 or 3.

    Returns:
        N x C x size x size.
    """
    total = u.sum((2, 3))
    if size == 1:
        return total[:, :, None, None]
    nothing = torch.zeros_like(total)
    rows = (u[:, :, -1].sum(2), nothing, u[:, :, 0].sum(2))
    columns = (u[:, :, :, -1].sum(2), nothing, u[:, :, :, 0].sum(2))
    corners = {(i, j): u[:, :, i // 2 - 1, j // 2 - 1] for i in (0, 2) for j in (0, 2)}
    taps = [total - rows[i] - columns[j] + corners.get((i, j), nothing) for i in range(3) for j in range(3)]
    by_tap: Tensor = torch.stack(taps, dim=2).unflatten(2, (3, 3))
    return by_tap


def squeeze_of_convolution(sums: Tensor, weight: Tensor, pixels: int) -> Tensor:
    """Return the means of a convolution's output over height and width.

    Args:
        sums: Sums of its input by tap, N x C x k x k.
        weight: Weight of the convolution, C' x C x k x k.
        pixels: Number of pixels of its output, H W.

    Returns:
        N x C', in the dtype of `sums`.
    """
    return sums.flatten(1) @ weight.to(sums.dtype).flatten(1).t() / pixels


def sums_for(weight: Tensor, sums: Tensor) -> Tensor:
    """Return those of the sums for a 3x3 convolution, N x C x 3 x 3, that a weight needs: for 1x1 only the total."""
    return sums if weight.shape[2] == sums.shape[2] else sums[:, :, 1:2, 1:2]


def has_known_squeeze(convolution: nn.Module) -> bool:
    """Return whether a module is a plain convolution without bias whose squeeze follows from sums of its input."""
    if type(convolution) is not nn.Conv2d or has_hooks(convolution) or convolution.bias is not None:
        return False
    size = convolution.kernel_size[0]
    return (
        size in TAPS
        and convolution.kernel_size == (size, size)
        and convolution.padding == (size // 2, size // 2)
        and (convolution.stride, convolution.dilation, convolution.groups) == ((1, 1), (1, 1), 1)
        and convolution.padding_mode == "zeros"
    )
