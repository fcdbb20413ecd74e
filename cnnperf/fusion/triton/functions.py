"""The fused functions on a GPU, in Triton kernels. Importing this module does not import triton; using it does.

Maps are in one of `DTYPES`. Parameters and running statistics are in one of `DTYPES`, too, contiguous and on the same
device; other tensors are in fp32. In a compiled graph the operators of `operators` run the same kernels.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from cnnperf.fusion import maps, operators
from cnnperf.fusion.algebra import Add, Forward, Frozen, Gradients, Merge, Parameters
from cnnperf.fusion.excitation import Excitation, ExcitationWeights, in_float32
from cnnperf.fusion.norm import BatchNorm, affine_of, frozen, updates_statistics
from cnnperf.fusion.triton.launch import Excited, of_one_layout

if TYPE_CHECKING:
    from cnnperf.fusion.triton import gate as triton_gate
    from cnnperf.fusion.triton.tail import Running

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Dtypes of maps that the kernels read and write."""

OLDEST = (8, 0)
"""Oldest compute capability for which the tests compile the kernels."""


def available() -> bool:
    """Return whether triton is installed and a GPU is present, or Triton's interpreter is on."""
    return _load()


# torch.compiler.assume_constant_result does the same, but would import Dynamo and with it triton.
available._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def takes(x: Tensor, *others: Tensor) -> str | None:
    """Return why the kernels do not take maps; None if they do."""
    if not x.is_cuda:
        return "the map is not on a GPU"
    if x.dtype not in DTYPES:
        return f"the map is in {x.dtype}; the kernels take {', '.join(map(str, DTYPES))}"
    if x.dim() != maps.MAP_DIMENSIONS or x.numel() == 0:
        return f"the map is empty or does not have {maps.MAP_DIMENSIONS} dimensions"
    if not available():
        return "triton is not installed, or there is no GPU of compute capability 8.0 or newer"
    return maps.not_alike(x, *others)


@cache
def _load() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    if os.environ.get("TRITON_INTERPRET") != "1" and not _has_device():
        return False
    importlib.import_module("cnnperf.fusion.triton.operators")
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
    """Compute `algebra.tail_forward` and update running statistics; results that are `apart` share no allocation."""
    from cnnperf.fusion.triton import tail as triton_tail

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return triton_tail.tail_forward(x, shortcut, parameters, eps, merge=merge, running=running, apart=apart)


def tail_backward(
    grad: Tensor,
    x: Tensor,
    saved: Forward,
    parameters: Parameters,
    eps: float,
    add: Add | None = None,
    *,
    apart: bool = False,
) -> Gradients:
    """Compute `algebra.tail_backward`; results that are `apart` share no allocation."""
    from cnnperf.fusion.triton import tail as triton_tail

    x, grad, mask = of_one_layout(x, grad, saved.mask)
    with torch.cuda.device_of(x):
        return triton_tail.tail_backward(grad, x, saved._replace(mask=mask), parameters, eps, add=add, apart=apart)


def tail_inference(x: Tensor, shortcut: Tensor, norm: Frozen, *excitation: Tensor | None) -> Tensor:
    """Compute `algebra.tail_inference`; `excitation` holds weights and biases."""
    from cnnperf.fusion.triton import inference as triton_inference

    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return triton_inference.tail_inference(x, shortcut, norm, *excitation)  # type: ignore[arg-type]


def tail_scaling(x: Tensor, squeezed: Tensor | None, norm: Frozen, *excitation: Tensor | None) -> Tensor:
    """Compute `algebra.tail_scaling`, 2 x N x C; `excitation` holds weights and biases.

    The means of x, N x C, are computed if `squeezed` is None.
    """
    from cnnperf.fusion.triton import inference as triton_inference

    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return triton_inference.tail_scaling(x, squeezed, norm, *excitation)  # type: ignore[arg-type]


def se_forward(x: Tensor, excitation: Excitation, *, apart: bool = False) -> Excited:
    """Compute `squeeze_and_excite` and the tensors for its backward; results that are `apart` share no allocation."""
    from cnnperf.fusion.triton import gate as triton_gate

    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return triton_gate.se_forward(x, excitation, apart=apart)


def se_backward(
    grad: Tensor, x: Tensor, saved: Excited, excitation: Excitation, *, apart: bool = False
) -> triton_gate.Gradients:
    """Return the gradients of `se_forward`; results that are `apart` share no allocation."""
    from cnnperf.fusion.triton import gate as triton_gate

    x, grad = of_one_layout(x, grad)
    with torch.cuda.device_of(x):
        return triton_gate.se_backward(grad, x, saved, excitation, apart=apart)


def gate(x: Tensor, excitation: Excitation) -> Tensor:
    """Return the gated map, N x C x H x W, differentiable once, for a map in any layout."""
    return cast(Tensor, Gated.apply(x, *in_float32(excitation[:4]), *excitation[4:]))  # type: ignore[no-untyped-call]


class Gated(torch.autograd.Function):
    """`excitation.squeeze_and_excite` in Triton kernels; the backward raises RuntimeError if differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *excitation: Any) -> Tensor:
        """Gate a map; `excitation` holds the fields of an `Excitation`."""
        saved = se_forward(x, Excitation(*excitation))
        ctx.save_for_backward(x, *excitation[:4], *saved[1:])
        ctx.kind = excitation[4:]
        return saved.out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute the gradients of the map, both weights and both biases."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        excitation = Excitation(*small[:4], *ctx.kind)
        *gradients, into_activation, into_gate = se_backward(grad, x, Excited(x, *small[4:]), excitation)
        pairs = zip((into_activation, into_gate), small[2:4], strict=True)
        return *gradients, *(None if bias is None else gradient.sum(0) for gradient, bias in pairs), None, None


def train_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights) -> Tensor | None:
    """Return the tail in training and update the running statistics; None if the kernels cannot update them.

    Parameters that the kernels cannot read are converted to float32 first.
    """
    running = None
    if updates_statistics(norm):
        running = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
        if not _updates(running, x):
            return None
    parameters = (_readable(small) for small in (*affine_of(norm, x), *excitation))
    return cast(Tensor, Tail.apply(float(norm.eps), running, x, shortcut, *parameters))  # type: ignore[no-untyped-call]


def infer_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, _: Tensor | None) -> Tensor:
    """Return the tail in inference. Known means of x are not used, because a small sample is read only once anyway."""
    return tail_inference(x, shortcut, frozen(norm, x), *in_float32(excitation))


def _updates(running: tuple[Any, ...], x: Tensor) -> bool:
    """Return whether the kernels can update running statistics, the fields of `tail.Running`."""
    mean, variance, batches, _ = running
    counted = batches is None or (batches.dtype is torch.int64 and batches.device == x.device)
    return counted and _is_read(mean) and _is_read(variance)


def _readable(small: Tensor | None) -> Tensor | None:
    return small if small is None or _is_read(small) else small.float().contiguous()


def _is_read(small: Tensor) -> bool:
    return small.dtype in DTYPES and small.is_contiguous()


class Tail(torch.autograd.Function):
    """`halves.Tail` in Triton kernels, which also update running statistics and read parameters in their own dtypes."""

    @staticmethod
    def forward(
        ctx: Any, eps: float, running: tuple[Any, ...] | None, x: Tensor, shortcut: Tensor, *parameters: Any
    ) -> Tensor:
        """Compute the output, and save x, the byte mask and the small tensors for the backward."""
        from cnnperf.fusion.triton.tail import Running

        statistics = None if running is None else Running(*running)
        out, *saved = tail_forward(x, shortcut, Parameters(*parameters), eps, running=statistics)
        ctx.eps = eps
        ctx.save_for_backward(x, *saved, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute all gradients from the gradient of the output."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        saved, parameters = Forward(x, *small[:7]), Parameters(*small[7:])
        gradients = tail_backward(grad, x, saved, parameters, ctx.eps)
        return None, None, *operators.of_present(gradients, small[-2:])
