"""The C++ kernels as operators of PyTorch, so that an outer torch.compile takes them into its graph.

Outside of a compilation the autograd functions call the kernels directly, which costs less.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cnnperf.fusion import forms
from cnnperf.fusion.algebra import Forward, Parameters


@torch.library.custom_op("cnnperf::tail_forward", mutates_args=())
def tail_forward(
    x: Tensor, shortcut: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, expand: Tensor, eps: float
) -> list[Tensor]:
    """Return the fields of `algebra.Forward` for maps of one layout and parameters in fp32."""
    return list(forms.native_forward(*_of_one_layout(x, shortcut), Parameters(weight, bias, reduce, expand), eps))


@torch.library.custom_op("cnnperf::tail_backward", mutates_args=())
def tail_backward(
    grad: Tensor,
    x: Tensor,
    kept: list[Tensor],
    weight: Tensor,
    bias: Tensor,
    reduce: Tensor,
    expand: Tensor,
    eps: float,
) -> list[Tensor]:
    """Return the fields of `algebra.Gradients`; `kept` is what the forward gave without its output."""
    x, grad = _of_one_layout(x, grad)
    forward = Forward(x, *kept)
    return list(forms.native_backward(grad, x, forward, Parameters(weight, bias, reduce, expand), eps))


@torch.library.custom_op("cnnperf::tail_inference", mutates_args=())
def tail_inference(
    x: Tensor, shortcut: Tensor, slope: Tensor, offset: Tensor, reduce: Tensor, expand: Tensor
) -> Tensor:
    """Return what `algebra.tail_inference` returns."""
    return forms.native_inference(*_of_one_layout(x, shortcut), slope, offset, (reduce, expand))


@tail_forward.register_fake
def _(
    x: Tensor, shortcut: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, expand: Tensor, eps: float
) -> list[Tensor]:
    del shortcut, bias, expand, eps  # they decide no shape
    batch, channels = x.shape[:2]
    mean, squeezed, gate = (weight.new_empty(batch, channels) for _ in range(3))
    mu, variance = (weight.new_empty(channels) for _ in range(2))
    out, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    hidden = weight.new_empty(batch, reduce.shape[0])
    return list(Forward(out, mask, mean, mu, variance, squeezed, hidden, gate))


@tail_backward.register_fake
def _(grad: Tensor, x: Tensor, kept: list[Tensor], *parameters: Any) -> list[Tensor]:
    del grad, kept
    return [torch.empty_like(one) for one in (x, x, *parameters[:4])]


@tail_inference.register_fake
def _(x: Tensor, *_: Tensor) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, _, *parameters, ctx.eps = inputs
    ctx.save_for_backward(x, *output[1:], *parameters)


def _gradients(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    x, *small = ctx.saved_tensors
    return (*tail_backward(grads[0], x, small[:7], *small[7:], ctx.eps), None)


tail_forward.register_autograd(_gradients, setup_context=_keep)


def _of_one_layout(x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return both maps in the layout of the first; a compiler may have given the second another."""
    layout = forms.memory_format_of(x)
    return x.contiguous(memory_format=layout), other.contiguous(memory_format=layout)
