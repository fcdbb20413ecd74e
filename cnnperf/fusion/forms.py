"""The forms in which the fused functions exist, and which one a tensor gets.

A form is a pair of functions with the signatures of `algebra.tail_forward` and `algebra.tail_backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cnnperf.fusion import algebra, native, operators
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
    return alike and x.dtype in native.DTYPES and x.numel() > 0 and native.available()


def fits_channels(x: Tensor, reduce: Tensor, expand: Tensor, *of_channels: Tensor | None) -> bool:
    """Tell whether weights belong to the channels of a map and lie on its device.

    Kernels read by address: what does not fit goes to PyTorch's own operators, which say what is wrong.
    """
    if x.dim() != MAP_DIMENSIONS or reduce.shape != expand.shape[::-1] or reduce.shape[1:] != x.shape[1:2]:
        return False
    return reduce.device == expand.device == x.device and fits_norm(x, *of_channels)


def fits_norm(x: Tensor, *of_channels: Tensor | None) -> bool:
    """Tell whether what a map's channels are given, or None, has their number and lies on the map's device."""
    present = [one for one in of_channels if one is not None]
    return x.dim() == MAP_DIMENSIONS and all(one.shape == x.shape[1:2] and one.device == x.device for one in present)


def native_forward(x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float) -> Forward:
    """Do what `algebra.tail_forward` does in one call of C++, for parameters in fp32."""
    return Forward(*operators.tail_forward(x, shortcut, *parameters, eps))


def native_backward(grad: Tensor, x: Tensor, kept: Forward, parameters: Parameters, eps: float) -> Gradients:
    """Do what `algebra.tail_backward` does in one call of C++, for parameters in fp32."""
    return Gradients(*operators.tail_backward(grad, x, *kept[1:], *parameters, eps))


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
