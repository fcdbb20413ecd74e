"""What all launches of the GPU kernels share: sizes, layouts, and how a kernel is started.

The functions of `gpu_tail` and `gpu_gate` start each kernel as `launch(kernel)[grid](...)`, where `launch` is an
argument, so that tests can record launches instead of making them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnnperf.fusion import maps
from cnnperf.fusion.gpu_plan import Plan, Sweep, plan

Launch = Callable[[Any], Any]
"""From a kernel to what launches it, indexed by a grid."""


class Sizes(NamedTuple):
    """Hold the sizes of a map and of its excitation: N, C, H W, C/r, and whether the map is channels_last."""

    batch: int
    channels: int
    pixels: int
    width: int
    last: bool


def directly(kernel: Any) -> Any:
    """Return the kernel as it is."""
    return kernel


def sizes_of(x: Tensor, reduce: Tensor) -> tuple[Sizes, Plan]:
    """Return the sizes of x, N x C x H x W, and of reduce, C/r x C, and the plan for them."""
    batch, channels, height, columns = (int(size) for size in x.shape)
    last = maps.memory_format_of(x) == torch.channels_last
    sizes = Sizes(batch, channels, height * columns, int(reduce.shape[0]), last)
    return sizes, plan(*sizes[:4], last=last)


class Excited(NamedTuple):
    """Hold what the forward of Squeeze-and-Excitation gives; all but `out` is kept for the backward.

    Attributes:
        out: N x C x H x W, in the dtype of x.
        squeezed: N x C.
        hidden: After the activation, N x C/r.
        slopes: The derivative of SiLU, N x C/r; with ReLU, which needs none, not written.
        gate: N x C.
    """

    out: Tensor
    squeezed: Tensor
    hidden: Tensor
    slopes: Tensor
    gate: Tensor


def of_one_layout(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Return maps in the layout of the first; a compiler may have given the others another."""
    layout = maps.memory_format_of(x)
    return tuple(one.contiguous(memory_format=layout) for one in (x, *others))


def tile_of(sweep: Sweep, *, last: bool) -> dict[str, Any]:
    """Return what every sweep over maps is compiled for."""
    return {"last": last, "block_c": sweep.block_c, "block_p": sweep.block_p, "num_warps": sweep.warps}


def rows_of(how: Plan) -> dict[str, int]:
    """Return what every excitation over rows of N x C is compiled for."""
    return {"block_c": how.row_c, "block_h": how.row_h, "num_warps": how.row_warps}


def whole_of(how: Plan, *, last: bool) -> dict[str, Any]:
    """Return what every kernel that holds a sample's map is compiled for."""
    blocks = {"block_c": how.whole_c, "block_p": how.whole_p, "row_c": how.row_c, "row_h": how.row_h}
    return {"last": last, **blocks, "num_warps": how.whole_warps}


def small(x: Tensor, *size: int) -> Tensor:
    """Return a new tensor in fp32 on the device of x."""
    return x.new_empty(size, dtype=torch.float32)
