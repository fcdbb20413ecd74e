"""Sizes, layouts and small tensors for launches of the GPU kernels, and direct launches of compiled kernels.

`JITFunction.run` binds, specializes and looks up a kernel at each launch, which takes the host longer than a small
kernel runs. Here the signature of a call contains everything that these steps depend on, and the compiled kernels of a
known signature are started directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnnperf.fusion import maps
from cnnperf.fusion.triton.plan import Plan, Sweep, plan

ALIGNMENT = 16
"""Alignment in bytes for which Triton specializes a pointer; small tensors in a block take multiples of 16 numbers."""

SIGNATURES = 4096
"""Largest number of signatures whose kernels are cached; a network has about ten."""

Launch = Callable[..., None]
"""Function that starts a kernel: `launch(kernel, programs, *arguments, **constants)`, with `num_warps` in constants."""


class Sizes(NamedTuple):
    """Sizes of a map and of its excitation: N, C, H W, C/r, and whether the map is channels_last."""

    batch: int
    channels: int
    pixels: int
    width: int
    last: bool


def sizes_of(x: Tensor, reduce: Tensor) -> tuple[Sizes, Plan]:
    """Return the sizes of x, N x C x H x W, and of reduce, C/r x C, and the plan for them."""
    batch, channels, height, columns = x.shape
    last = maps.memory_format_of(x) == torch.channels_last
    sizes = Sizes(batch, channels, height * columns, reduce.shape[0], last)
    return sizes, plan(*sizes[:4], last=last)


class Excited(NamedTuple):
    """Results of the forward of Squeeze-and-Excitation; all but `out` are saved for the backward.

    Attributes:
        out: Gated map, N x C x H x W, in the dtype of x.
        squeezed: Squeezed means, N x C.
        hidden: Hidden values after the activation, N x C/r.
        slopes: Derivatives of SiLU, N x C/r; uninitialized with ReLU.
        gate: Gate, N x C.
    """

    out: Tensor
    squeezed: Tensor
    hidden: Tensor
    slopes: Tensor
    gate: Tensor


def of_one_layout(x: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Return maps in the layout of the first; a compiler may have chosen another one for the others."""
    layout = maps.memory_format_of(x)
    return tuple(tensor.contiguous(memory_format=layout) for tensor in (x, *others))


def launch_ordinarily(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Start a kernel through Triton's own lookup."""
    kernel[(programs,)](*arguments, **constants)


class DirectLaunch:
    """Launcher of the kernels of one call signature, which caches the compiled kernels.

    The first launch of a kernel goes through `JITFunction.run`, which returns the `CompiledKernel`. Later launches call
    the function that `CompiledKernel.__getitem__` returns, with every argument of the kernel, including constants (the
    same in Triton 3.6 and 3.7, https://github.com/triton-lang/triton/blob/v3.6.0/python/triton/compiler/compiler.py).
    """

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def __call__(self, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        """Start a kernel; calls of one signature start each kernel with the same grid and constants."""
        known = self._compiled.get(kernel.__name__)
        if known is not None:
            start, rest = known
            start(*arguments, *rest)
            return
        compiled = kernel[(programs,)](*arguments, **constants)
        if compiled is not None:  # Triton's interpreter compiles nothing
            rest = tuple(constants[name] for name in kernel.arg_names[len(arguments) :])
            self._compiled[kernel.__name__] = compiled[programs, 1, 1], rest


@lru_cache(maxsize=SIGNATURES)
def _direct(*_: Any) -> DirectLaunch:
    return DirectLaunch()


def launch_for(function: str, x: Tensor, tensors: Sequence[Tensor | None], *flags: Any) -> Launch:
    """Return the launcher of a function's kernels for one call.

    Triton compiles a kernel for the dtypes of its pointers, for their alignment, and for integers that are 1 or
    multiples of 16. The integers follow from the shapes, which are part of the signature. A direct launch needs aligned
    pointers; a call with any other goes through Triton's lookup.

    Args:
        function: Name of the function that starts the kernels.
        x: Map, N x C x H x W; its shape, layout, dtype and device are part of the signature.
        tensors: All other tensors that the function was called with; their dtypes are part of the signature.
        flags: Everything else that kernels, grids, constants and types of numbers depend on, such as the width C/r.
    """
    addresses = x.data_ptr()
    for tensor in tensors:
        if tensor is not None:
            addresses |= tensor.data_ptr()
    if addresses % ALIGNMENT:
        return launch_ordinarily
    dtypes = [None if tensor is None else tensor.dtype for tensor in tensors]
    return _direct(function, x.shape, x.stride(), x.dtype, x.device.index, *dtypes, *flags)


def tile_of(tiling: Plan, sweep: Sweep, *, last: bool) -> dict[str, Any]:
    """Return the constants of a sweep over maps."""
    blocks = {"block_c": sweep.block_c, "block_p": sweep.block_p}
    return {"last": last, "quads": tiling.quads, **blocks, "num_warps": sweep.warps}


def rows_of(tiling: Plan) -> dict[str, int]:
    """Return the constants of a kernel that computes the excitation of a sample."""
    blocks = {"block_c": tiling.row_c, "block_h": tiling.row_h, "block_parts": tiling.row_parts}
    return {**blocks, "num_warps": tiling.row_warps}


def whole_of(tiling: Plan, *, last: bool) -> dict[str, Any]:
    """Return the constants of a kernel that holds a sample's map in registers."""
    blocks = {"block_c": tiling.whole_c, "block_p": tiling.whole_p, "row_c": tiling.row_c, "row_h": tiling.row_h}
    return {"last": last, "quads": tiling.quads, **blocks, "num_warps": tiling.whole_warps}


def small(x: Tensor, *size: int) -> Tensor:
    """Return a new tensor of a size in fp32 on the device of x."""
    return x.new_empty(size, dtype=torch.float32)


def block_of(x: Tensor, dtype: torch.dtype, *sizes: tuple[int, ...], apart: bool = False) -> list[Tensor]:
    """Return new contiguous, aligned tensors in one allocation on the device of x.

    Each tensor keeps the whole allocation alive, so only tensors that live equally long should share one.

    Args:
        x: Any tensor on the device.
        dtype: Dtype of the tensors.
        sizes: Sizes of the tensors.
        apart: Whether each tensor gets its own allocation, which the results of an operator need.
    """
    if apart:
        return [x.new_empty(size, dtype=dtype) for size in sizes]
    starts, total = _layout(sizes)
    block = x.new_empty(total, dtype=dtype)
    return [block.as_strided(size, strides, start) for size, (strides, start) in zip(sizes, starts, strict=True)]


@lru_cache(maxsize=SIGNATURES)
def _layout(sizes: tuple[tuple[int, ...], ...]) -> tuple[list[tuple[tuple[int, ...], int]], int]:
    """Return strides and offset of each tensor in one allocation, and the size of the allocation."""
    starts, total = [], 0
    for size in sizes:
        strides: list[int] = []
        step = 1
        for extent in reversed(size):
            strides.insert(0, step)
            step *= extent
        starts.append((tuple(strides), total))
        total += -(-step // ALIGNMENT) * ALIGNMENT
    return starts, total
