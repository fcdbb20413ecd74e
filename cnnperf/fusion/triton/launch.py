"""What all launches of the GPU kernels share: sizes, layouts, small tensors, and how a kernel is started.

`JITFunction.run` binds, specializes and looks up a kernel anew at each launch, which takes the host longer than a small
kernel runs. All that depends on is here part of a call's signature, so that the kernels of a signature, once compiled,
are started directly.
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
"""Bytes for which Triton specializes a pointer, and numbers of which each small tensor in a block takes a multiple."""

SIGNATURES = 4096
"""Signatures whose kernels are kept; a network has some ten."""

Launch = Callable[..., None]
"""Start a kernel: `launch(kernel, programs, *arguments, **constants)`, where constants hold `num_warps` too."""


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
    """Results of the forward of Squeeze-and-Excitation; all but `out` is kept for the backward.

    Attributes:
        out: N x C x H x W, in the dtype of x.
        squeezed: N x C.
        hidden: After the activation, N x C/r.
        slopes: The derivative of SiLU, N x C/r; not written with ReLU, which needs none.
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


def launch_ordinarily(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Start a kernel through Triton's own look-up."""
    kernel[(programs,)](*arguments, **constants)


class DirectLaunch:
    """Launcher of the kernels of one call signature, which keeps what was compiled at the first call.

    The first launch of a kernel goes through `JITFunction.run`, which returns the `CompiledKernel`; later ones call
    `CompiledKernel.__getitem__`'s function, which takes every argument of the kernel, constants included (the same in
    Triton 3.6 and 3.7, https://github.com/triton-lang/triton/blob/v3.6.0/python/triton/compiler/compiler.py).
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def __call__(self, kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
        """Start a kernel, of which this signature starts one with one grid and one set of constants."""
        kept = self._kept.get(kernel.__name__)
        if kept is not None:
            start, rest = kept
            start(*arguments, *rest)
            return
        compiled = kernel[(programs,)](*arguments, **constants)
        if compiled is not None:  # Triton's interpreter compiles nothing
            rest = tuple(constants[name] for name in kernel.arg_names[len(arguments) :])
            self._kept[kernel.__name__] = compiled[programs, 1, 1], rest


@lru_cache(maxsize=SIGNATURES)
def _direct(*_: Any) -> DirectLaunch:
    return DirectLaunch()


def launch_for(function: str, x: Tensor, tensors: Sequence[Tensor | None], *flags: Any) -> Launch:
    """Return the launcher of a function's kernels for one call.

    Triton compiles a kernel for the dtypes of its pointers, for whether each is aligned, and for integers that are 1 or
    multiples of 16. The integers follow from the shapes, which are part of the signature. Pointers are all aligned in
    a direct launch; a call with another one is left to Triton.

    Args:
        function: Name of the function that starts the kernels.
        x: Map, N x C x H x W; its shape, layout, dtype and device belong to the signature.
        tensors: All other tensors that the caller got from outside; their dtypes, and the width of the excitation,
            which is the last size of any of them, belong to it.
        flags: What else decides about kernels, grids, constants and types of numbers.

    Returns:
        A launcher.
    """
    places = x.data_ptr()
    for one in tensors:
        if one is not None:
            places |= one.data_ptr()
    if places % ALIGNMENT:
        return launch_ordinarily
    dtypes = [None if one is None else one.dtype for one in tensors]
    return _direct(function, x.shape, x.stride(), x.dtype, x.device.index, *dtypes, *flags)


def tile_of(how: Plan, sweep: Sweep, *, last: bool) -> dict[str, Any]:
    """Return what every sweep over maps is compiled for."""
    blocks = {"block_c": sweep.block_c, "block_p": sweep.block_p}
    return {"last": last, "quads": how.quads, **blocks, "num_warps": sweep.warps}


def rows_of(how: Plan) -> dict[str, int]:
    """Return what every excitation over rows of N x C is compiled for."""
    blocks = {"block_c": how.row_c, "block_h": how.row_h, "block_parts": how.row_parts}
    return {**blocks, "num_warps": how.row_warps}


def whole_of(how: Plan, *, last: bool) -> dict[str, Any]:
    """Return what every kernel that holds a sample's map is compiled for."""
    blocks = {"block_c": how.whole_c, "block_p": how.whole_p, "row_c": how.row_c, "row_h": how.row_h}
    return {"last": last, "quads": how.quads, **blocks, "num_warps": how.whole_warps}


def small(x: Tensor, *size: int) -> Tensor:
    """Return a new tensor in fp32 on the device of x."""
    return x.new_empty(size, dtype=torch.float32)


def block_of(x: Tensor, dtype: torch.dtype, *sizes: tuple[int, ...], apart: bool = False) -> list[Tensor]:
    """Return new contiguous tensors in one allocation on the device of x, each of them aligned.

    A view keeps all of the allocation alive: only tensors that live equally long belong together.

    Args:
        x: On the device.
        dtype: Of the tensors.
        sizes: Of the tensors.
        apart: Whether each gets an allocation of its own; what an operator returns must not share one.

    Returns:
        The tensors.
    """
    if apart:
        return [x.new_empty(size, dtype=dtype) for size in sizes]
    starts, total = _layout(sizes)
    block = x.new_empty(total, dtype=dtype)
    return [block.as_strided(size, strides, start) for size, (strides, start) in zip(sizes, starts, strict=True)]


@lru_cache(maxsize=SIGNATURES)
def _layout(sizes: tuple[tuple[int, ...], ...]) -> tuple[list[tuple[tuple[int, ...], int]], int]:
    """Return strides and first number of each of some tensors in one allocation, and its size."""
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
