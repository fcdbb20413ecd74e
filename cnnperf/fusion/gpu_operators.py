"""The GPU kernels as operators of PyTorch, so that an outer torch.compile takes them into its graph and sees inside.

An operator takes maps of one shape and dtype, in any layout, and everything else in fp32. Outside of a compilation the
functions of `gpu` launch the kernels directly, which costs less. Importing this module imports triton.
"""
# ruff: noqa: PLR0913, PLR0917 - an operator takes one argument a tensor
# mypy: allow-untyped-decorators

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton

from cnnperf.fusion import maps
from cnnperf.fusion.algebra import Forward, Frozen, Parameters
from cnnperf.fusion.gate import Excitation
from cnnperf.fusion.gpu_gate import se_backward, se_forward
from cnnperf.fusion.gpu_launch import Excited, of_one_layout
from cnnperf.fusion.gpu_tail import tail_backward, tail_forward, tail_inference


@triton_op("cnnperf::gpu_tail_forward", mutates_args=())
def forward_operator(
    x: Tensor, shortcut: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, expand: Tensor, eps: float
) -> list[Tensor]:
    """Return the fields of `algebra.Forward`."""
    x, shortcut = of_one_layout(x, shortcut)
    return list(tail_forward(x, shortcut, Parameters(weight, bias, reduce, expand), eps, wrap_triton))


@triton_op("cnnperf::gpu_tail_backward", mutates_args=())
def backward_operator(
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
    x, grad, mask = of_one_layout(x, grad, kept[0])
    forward = Forward(x, mask, *kept[1:])
    return list(tail_backward(grad, x, forward, Parameters(weight, bias, reduce, expand), eps, wrap_triton))


@triton_op("cnnperf::gpu_tail_inference", mutates_args=())
def inference_operator(
    x: Tensor,
    shortcut: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    reduce: Tensor,
    expand: Tensor,
) -> Tensor:
    """Return what `algebra.tail_inference` does. It has no gradient."""
    x, shortcut = of_one_layout(x, shortcut)
    return tail_inference(x, shortcut, Frozen(weight, bias, mean, variance, eps), reduce, expand, wrap_triton)


@triton_op("cnnperf::gpu_se_forward", mutates_args=())
def se_operator(
    x: Tensor,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None,
    expand_bias: Tensor | None,
    activation: str,
    gate: str,
) -> list[Tensor]:
    """Return the fields of `gpu_launch.Excited` for the fields of `gate.Excitation`."""
    (x,) = of_one_layout(x)
    excitation = Excitation(reduce, expand, reduce_bias, expand_bias, activation, gate)
    return list(se_forward(x, excitation, wrap_triton))


@triton_op("cnnperf::gpu_se_backward", mutates_args=())
def se_backward_operator(
    grad: Tensor,
    x: Tensor,
    kept: list[Tensor],
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None,
    expand_bias: Tensor | None,
    activation: str,
    gate: str,
) -> list[Tensor]:
    """Return the gradients of x and of the tensors of the excitation that there are."""
    x, grad = of_one_layout(x, grad)
    excitation = Excitation(reduce, expand, reduce_bias, expand_bias, activation, gate)
    gradients = se_backward(grad, x, Excited(x, *kept), excitation, wrap_triton)
    return [one for one in gradients if one is not None]


# Without these PyTorch would trace the launches for shapes alone, and fix the batch of an export.
@forward_operator.register_fake
def _(x: Tensor, shortcut: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, *_: Any) -> list[Tensor]:
    del shortcut, bias
    batch, channels = x.shape[:2]
    mean, squeezed, gate = (weight.new_empty(batch, channels) for _ in range(3))
    mu, variance = (weight.new_empty(channels) for _ in range(2))
    out, hidden = maps.like(x), weight.new_empty(batch, reduce.shape[0])
    return list(Forward(out, torch.empty_like(out, dtype=torch.uint8), mean, mu, variance, squeezed, hidden, gate))


@backward_operator.register_fake
def _(grad: Tensor, x: Tensor, kept: list[Tensor], *parameters: Any) -> list[Tensor]:
    del grad, kept
    return [maps.like(x), maps.like(x), *(torch.empty_like(one) for one in parameters[:4])]


@inference_operator.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return maps.like(x)


@se_operator.register_fake
def _(x: Tensor, reduce: Tensor, expand: Tensor, *kind: Any) -> list[Tensor]:
    del expand
    batch, channels = x.shape[:2]
    squeezed, gate = (reduce.new_empty(batch, channels) for _ in range(2))
    width, activation = reduce.shape[0], kind[2]
    slopes = reduce.new_empty(batch if activation == "silu" else 0, width)
    return list(Excited(maps.like(x), squeezed, reduce.new_empty(batch, width), slopes, gate))


@se_backward_operator.register_fake
def _(grad: Tensor, x: Tensor, kept: list[Tensor], *excitation: Any) -> list[Tensor]:
    del grad, kept
    return [maps.like(x), *(torch.empty_like(one) for one in excitation[:4] if one is not None)]


def _keep_tail(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, _, *parameters, ctx.eps = inputs
    ctx.save_for_backward(x, *output[1:], *parameters)


def _tail_gradients(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    maps.refuse_second_derivative()
    x, *small = ctx.saved_tensors
    return (*backward_operator(grads[0], x, small[:7], *small[7:], ctx.eps), None)


def _keep_se(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, *tensors, activation, gate = inputs
    ctx.kind = activation, gate
    ctx.save_for_backward(x, *output[1:], *tensors)


def _se_gradients(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    maps.refuse_second_derivative()
    x, *small = ctx.saved_tensors
    gradients = iter(se_backward_operator(grads[0], x, small[:4], *small[4:], *ctx.kind))
    return (*(None if one is None else next(gradients) for one in (x, *small[4:])), None, None)


forward_operator.register_autograd(_tail_gradients, setup_context=_keep_tail)
se_operator.register_autograd(_se_gradients, setup_context=_keep_se)
