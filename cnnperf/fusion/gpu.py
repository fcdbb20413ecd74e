"""The fused functions on a GPU, in Triton kernels. Importing this module does not import triton; using it does.

Each function launches the kernels directly and is for use outside of a compilation; within one there are the operators
of `operators`. Maps are in one of `DTYPES` and of any layout; all other tensors are in fp32 and contiguous, and on the
same device.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from cnnperf.fusion import maps
from cnnperf.fusion.algebra import Add, Forward, Frozen, Gradients, Merge, Parameters
from cnnperf.fusion.gpu_launch import Excited, of_one_layout

if TYPE_CHECKING:
    from cnnperf.fusion import gpu_gate
    from cnnperf.fusion.gate import Excitation

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of maps that the kernels read and write."""

OLDEST = (8, 0)
"""The oldest compute capability that the kernels are compiled for in the tests."""


def available() -> bool:
    """Tell whether the kernels can run here: triton is installed, and a GPU is there or Triton's interpreter is on."""
    return _load()


# What torch.compiler.assume_constant_result does, which would import Dynamo and with it triton.
available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def fits(x: Tensor, *others: Tensor) -> bool:
    """Tell whether the kernels take these maps: of one shape, known dtype and device, which is a GPU, and not empty."""
    alike = all(one.dtype == x.dtype and one.shape == x.shape and one.device == x.device for one in others)
    known = x.is_cuda and x.dtype in DTYPES and x.dim() == maps.MAP_DIMENSIONS
    return alike and known and x.numel() > 0 and available()


@cache
def _load() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    if os.environ.get("TRITON_INTERPRET") != "1" and not _has_device():
        return False
    importlib.import_module("cnnperf.fusion.gpu_operators")
    return True


def _has_device() -> bool:
    return torch.version.cuda is not None and torch.cuda.is_available() and torch.cuda.get_device_capability() >= OLDEST


def tail_forward(
    x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float, merge: Merge | None = None
) -> Forward:
    """Do what `algebra.tail_forward` does."""
    from cnnperf.fusion import gpu_tail

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return gpu_tail.tail_forward(x, shortcut, parameters, eps, merge=merge)


def tail_backward(
    grad: Tensor, x: Tensor, kept: Forward, parameters: Parameters, eps: float, add: Add | None = None
) -> Gradients:
    """Do what `algebra.tail_backward` does."""
    from cnnperf.fusion import gpu_tail

    x, grad = of_one_layout(x, grad)
    with torch.cuda.device_of(x):
        return gpu_tail.tail_backward(grad, x, kept, parameters, eps, add=add)


def tail_inference(x: Tensor, shortcut: Tensor, norm: Frozen, reduce: Tensor, expand: Tensor) -> Tensor:
    """Do what `algebra.tail_inference` does."""
    from cnnperf.fusion import gpu_tail

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return gpu_tail.tail_inference(x, shortcut, norm, reduce, expand)


def se_forward(x: Tensor, excitation: Excitation) -> Excited:
    """Do what `gate.squeeze_and_excite` does, and keep what its backward needs."""
    from cnnperf.fusion import gpu_gate

    with torch.cuda.device_of(x):
        return gpu_gate.se_forward(x, excitation)


def se_backward(grad: Tensor, x: Tensor, kept: Excited, excitation: Excitation) -> gpu_gate.Gradients:
    """Return the gradients of `se_forward`."""
    from cnnperf.fusion import gpu_gate

    with torch.cuda.device_of(x):
        return gpu_gate.se_backward(grad, x, kept, excitation)


def gate_map(x: Tensor, excitation: Excitation) -> Tensor:
    """Do what `gate.squeeze_and_excite` does, differentiable once, for a map in any layout."""
    (x,) = of_one_layout(x)
    return cast(Tensor, Gated.apply(x, *excitation))  # type: ignore[no-untyped-call]


class Gated(torch.autograd.Function):
    """Be `gate.squeeze_and_excite` in Triton kernels; the backward cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *excitation: Any) -> Tensor:
        """Gate a map by the fields of a `gate.Excitation`."""
        kept = se_forward(x, cast("Excitation", excitation))
        ctx.save_for_backward(x, *excitation[:4], *kept[1:])
        ctx.kind = excitation[4:]
        return kept.out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute the gradients of the map, both weights and both biases."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        x, grad = of_one_layout(x, grad)
        excitation = cast("Excitation", (*small[:4], *ctx.kind))
        dx, dreduce, dexpand, *into = se_backward(grad, x, Excited(x, *small[4:]), excitation)
        biases = (None if bias is None else one.sum(0) for bias, one in zip(small[2:4], into, strict=True))
        return dx, dreduce, dexpand, *biases, None, None
