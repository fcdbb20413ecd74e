"""The fused functions on a GPU, in Triton kernels. Importing this module does not import triton; using it does.

Maps are in one of `DTYPES`. Parameters and running statistics are in one of them too, contiguous, and on the same
device; everything else is in fp32. In a compilation the operators of `operators` run the same kernels.
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
    from cnnperf.fusion.excitation import Excitation
    from cnnperf.fusion.gpu_tail import Running

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
    x: Tensor,
    shortcut: Tensor,
    parameters: Parameters,
    eps: float,
    merge: Merge | None = None,
    running: Running | None = None,
    *,
    apart: bool = False,
) -> Forward:
    """Do what `algebra.tail_forward` does, and move running statistics; results `apart` share no allocation."""
    from cnnperf.fusion import gpu_tail

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return gpu_tail.tail_forward(x, shortcut, parameters, eps, merge=merge, running=running, apart=apart)


def tail_backward(
    grad: Tensor,
    x: Tensor,
    kept: Forward,
    parameters: Parameters,
    eps: float,
    add: Add | None = None,
    *,
    apart: bool = False,
) -> Gradients:
    """Do what `algebra.tail_backward` does; results `apart` share no allocation."""
    from cnnperf.fusion import gpu_tail

    x, grad, mask = of_one_layout(x, grad, kept.mask)
    with torch.cuda.device_of(x):
        return gpu_tail.tail_backward(grad, x, kept._replace(mask=mask), parameters, eps, add=add, apart=apart)


def tail_inference(x: Tensor, shortcut: Tensor, norm: Frozen, *excitation: Tensor | None) -> Tensor:
    """Do what `algebra.tail_inference` does, for weights and biases of an excitation."""
    from cnnperf.fusion import gpu_inference

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return gpu_inference.tail_inference(x, shortcut, norm, *excitation)  # type: ignore[arg-type]


def tail_scaling(x: Tensor, squeezed: Tensor | None, norm: Frozen, *excitation: Tensor | None) -> Tensor:
    """Do what `algebra.tail_scaling` does, for weights and biases of an excitation; return 2 x N x C.

    Where the means of x, N x C, are not known in `squeezed`, they are taken.
    """
    from cnnperf.fusion import gpu_inference

    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return gpu_inference.tail_scaling(x, squeezed, norm, *excitation)  # type: ignore[arg-type]


def se_forward(x: Tensor, excitation: Excitation, *, apart: bool = False) -> Excited:
    """Do what `squeeze_and_excite` does, and keep what its backward needs; results `apart` share no allocation."""
    from cnnperf.fusion import gpu_gate

    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return gpu_gate.se_forward(x, excitation, apart=apart)


def se_backward(
    grad: Tensor, x: Tensor, kept: Excited, excitation: Excitation, *, apart: bool = False
) -> gpu_gate.Gradients:
    """Return the gradients of `se_forward`; results `apart` share no allocation."""
    from cnnperf.fusion import gpu_gate

    x, grad = of_one_layout(x, grad)
    with torch.cuda.device_of(x):
        return gpu_gate.se_backward(grad, x, kept, excitation, apart=apart)


def gate_map(x: Tensor, excitation: Excitation) -> Tensor:
    """Do what `excitation.squeeze_and_excite` does, differentiable once, for a map in any layout."""
    return cast(Tensor, Gated.apply(x, *excitation))  # type: ignore[no-untyped-call]


class Gated(torch.autograd.Function):
    """`excitation.squeeze_and_excite` in Triton kernels; the backward cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *excitation: Any) -> Tensor:
        """Gate a map by the fields of a `excitation.Excitation`."""
        kept = se_forward(x, cast("Excitation", excitation))
        ctx.save_for_backward(x, *excitation[:4], *kept[1:])
        ctx.kind = excitation[4:]
        return kept.out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute the gradients of the map, both weights and both biases."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        excitation = cast("Excitation", (*small[:4], *ctx.kind))
        *gradients, into_activation, into_gate = se_backward(grad, x, Excited(x, *small[4:]), excitation)
        into = zip((into_activation, into_gate), small[2:4], strict=True)
        return *gradients, *(None if bias is None else one.sum(0) for one, bias in into), None, None


def train_tail(
    x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float, running: tuple[Any, ...] | None
) -> Tensor:
    """Return the tail in training, differentiable once, and move running statistics.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        parameters: In any dtype; what the kernels do not read is converted.
        eps: Added to the variance.
        running: Fields of `gpu_tail.Running`, or None.

    Returns:
        N x C x H x W.
    """
    ready = (_readable(one) for one in parameters)
    return cast(Tensor, Tail.apply(float(eps), running, x, shortcut, *ready))  # type: ignore[no-untyped-call]


def moves(running: tuple[Any, ...], x: Tensor) -> bool:
    """Tell whether the kernels can move these running statistics, fields of `gpu_tail.Running`, for a map."""
    mean, variance, batches, _ = running
    counted = batches is None or (batches.dtype is torch.int64 and batches.device == x.device)
    return counted and _is_read(mean) and _is_read(variance)


def _readable(small: Tensor | None) -> Tensor | None:
    return small if small is None or _is_read(small) else small.float().contiguous()


def _is_read(small: Tensor) -> bool:
    return small.dtype in DTYPES and small.is_contiguous()


class Tail(torch.autograd.Function):
    """`tail.Tail` in Triton kernels, which move the running statistics too and read parameters as they are."""

    @staticmethod
    def forward(
        ctx: Any, eps: float, running: tuple[Any, ...] | None, x: Tensor, shortcut: Tensor, *parameters: Any
    ) -> Tensor:
        """Compute the output, and keep x, the byte mask and what is small for the backward."""
        from cnnperf.fusion.gpu_tail import Running

        moved = None if running is None else Running(*running)
        out, *kept = tail_forward(x, shortcut, Parameters(*parameters), eps, running=moved)
        ctx.eps = eps
        ctx.save_for_backward(x, *kept, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute all gradients from that of the output."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        kept, parameters = Forward(x, *small[:7]), Parameters(*small[7:])
        gradients = tail_backward(grad, x, kept, parameters, ctx.eps)
        wanted = zip(gradients[2:], small[7:], strict=True)
        return None, None, *gradients[:2], *(None if one is None else gradient for gradient, one in wanted)
