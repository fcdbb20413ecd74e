"""The forms in which the fused functions exist, and which one a tensor gets.

A form is a pair of functions with the signatures of `algebra.tail_forward` and `algebra.tail_backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cnnperf.fusion import algebra, native
from cnnperf.fusion.algebra import Forward, Gradients, Parameters

MAP_DIMENSIONS = 4  # N, C, H, W


@dataclass(frozen=True)
class Form:
    """Hold one implementation of the tail in training."""

    forward: Callable[[Tensor, Tensor, Parameters, float], Forward]
    backward: Callable[[Tensor, Tensor, Forward, Parameters, float], Gradients]


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return channels_last where a map is that and nothing else, contiguous otherwise."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def refuse_second_derivative() -> None:
    """Raise in a backward whose own gradients are wanted, which would be silently wrong.

    Raises:
        RuntimeError: If the backward runs with `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "fused Squeeze-and-Excitation has no second derivative (create_graph=True); call "
            "cnnperf.fusion.unfuse(model) to compute it with PyTorch's own operators"
        )


def fits_native(*maps: Tensor) -> bool:
    """Tell whether the C++ kernels take these maps: on the CPU, of one dtype that they know, not empty."""
    x = maps[0]
    alike = all(one.dtype == x.dtype and one.shape == x.shape and one.device.type == "cpu" for one in maps)
    return alike and x.dtype in native.NAMES and x.numel() > 0 and native.available()


def fits_channels(x: Tensor, reduce: Tensor, expand: Tensor, *of_channels: Tensor | None) -> bool:
    """Tell whether weights belong to the channels of a map and lie on its device.

    Kernels read by address: what does not fit goes to PyTorch's own operators, which say what is wrong.
    """
    if x.dim() != MAP_DIMENSIONS or reduce.shape != expand.shape[::-1] or reduce.shape[1:] != x.shape[1:2]:
        return False
    present = [one for one in of_channels if one is not None]
    sized = all(one.shape == x.shape[1:2] for one in present)
    return sized and all(one.device == x.device for one in (reduce, expand, *present))


def native_forward(x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float) -> Forward:
    """Do what `algebra.tail_forward` does in one call of C++, for parameters in fp32."""
    batch, channels = x.shape[:2]
    hidden = parameters.reduce.shape[0]
    mean, squeezed, gate = (_small(batch, channels) for _ in range(3))
    mu, variance = (_small(channels) for _ in range(2))
    kept = Forward(
        out=torch.empty_like(x),
        mask=torch.empty_like(x, dtype=torch.uint8),
        mean=mean,
        mu=mu,
        variance=variance,
        squeezed=squeezed,
        hidden=_small(batch, hidden),
        gate=gate,
    )
    scratch = _small(2 * batch * channels + hidden * channels)
    native.call("tail_forward", x, x, shortcut, *_flat(parameters, eps), *kept, scratch)
    return kept


def native_backward(grad: Tensor, x: Tensor, kept: Forward, parameters: Parameters, eps: float) -> Gradients:
    """Do what `algebra.tail_backward` does in one call of C++, for parameters in fp32."""
    batch, channels = x.shape[:2]
    hidden = parameters.reduce.shape[0]
    gradients = Gradients(*(torch.empty_like(one) for one in (x, x, *parameters)))
    size = 6 * batch * channels + batch * hidden + 2 * hidden * channels
    scratch = _small(size)
    _, mask, *small = kept
    native.call("tail_backward", x, x, grad, mask, *_flat(parameters, eps), *small, *gradients, scratch)
    return gradients


def native_inference(
    x: Tensor, shortcut: Tensor, slope: Tensor, offset: Tensor, excitation: tuple[Tensor, Tensor]
) -> Tensor:
    """Do what `algebra.tail_inference` does in one call of C++, for small tensors in fp32."""
    batch, channels = x.shape[:2]
    reduce, expand = excitation
    out = torch.empty_like(x)
    hidden = reduce.shape[0]
    scratch = _small(3 * batch * channels + batch * hidden + hidden * channels)
    native.call("tail_inference", x, x, shortcut, slope, offset, reduce, expand, hidden, out, scratch)
    return out


def _small(*size: int) -> Tensor:
    return torch.empty(*size, dtype=torch.float32)


def _flat(parameters: Parameters, eps: float) -> tuple[Tensor | float, ...]:
    weight, bias, reduce, expand = parameters
    return weight, bias, eps, reduce, expand, reduce.shape[0]


@cache
def compiled() -> Form:
    """Return the algebra compiled with torch.compile, forward and backward each one graph."""
    return Form(torch.compile(algebra.tail_forward), torch.compile(algebra.tail_backward))


NATIVE = Form(native_forward, native_backward)
ALGEBRA = Form(algebra.tail_forward, algebra.tail_backward)


def form_for(x: Tensor, shortcut: Tensor) -> Form:
    """Return the form for these maps: C++ on the CPU where it takes them, the compiled algebra on a GPU, else plain."""
    if fits_native(x, shortcut):
        return NATIVE
    return compiled() if x.is_cuda else ALGEBRA
