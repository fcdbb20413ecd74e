"""The CUDA implementations of the operators that `operators` declares, in Triton kernels.

A compiler leaves maps as they lie around an operator with the tag `flexible_layout`, whereas it copies each map that a
`triton_op` takes into the layout that it had when the network was traced. One graph takes several batches, because the
sizes of a batch stay within the operators. Importing this module imports triton and registers the implementations.
"""
# ruff: noqa: PLR0913, PLR0917 - an operator takes one argument a tensor

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cnnperf.fusion import algebra
from cnnperf.fusion.algebra import Forward, Frozen, Parameters
from cnnperf.fusion.gate import Excitation
from cnnperf.fusion.gpu_gate import se_backward, se_forward
from cnnperf.fusion.gpu_launch import Excited, of_one_layout
from cnnperf.fusion.gpu_tail import tail_backward, tail_forward, tail_scaling
from cnnperf.fusion.operators import LIBRARY


def tail_training_operator(
    x: Tensor, shortcut: Tensor, weight: Tensor, bias: Tensor, reduce: Tensor, expand: Tensor, eps: float
) -> tuple[Tensor, ...]:
    """Return the fields of `algebra.Forward`; maps N x C x H x W, in any layout."""
    x, shortcut = of_one_layout(x, shortcut)
    with torch.cuda.device_of(x):
        return tuple(tail_forward(x, shortcut, Parameters(weight, bias, reduce, expand), eps))


def tail_backward_operator(grad: Tensor, x: Tensor, mask: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """Return the fields of `algebra.Gradients` from those of `algebra.Forward`, the parameters and eps."""
    *small, eps = others
    x, grad, mask = of_one_layout(x, grad, mask)
    with torch.cuda.device_of(x):
        return tuple(tail_backward(grad, x, Forward(x, mask, *small[:6]), Parameters(*small[6:]), eps))


def tail_scaling_operator(
    x: Tensor,
    squeezed: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    reduce: Tensor,
    expand: Tensor,
) -> Tensor:
    """Return what `algebra.tail_scaling` does as one tensor of 2 x N x C."""
    norm = Frozen(weight, bias, mean, variance, eps)
    if squeezed is not None:
        return torch.stack(algebra.tail_scaling(squeezed, norm, reduce, expand))
    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return tail_scaling(x, norm, reduce, expand)


def se_training_operator(x: Tensor, *excitation: Any) -> tuple[Tensor, ...]:
    """Return the fields of `gpu_launch.Excited` for an excitation whose last fields are `silu` and `hard`."""
    (x,) = of_one_layout(x)
    with torch.cuda.device_of(x):
        return tuple(se_forward(x, _excitation(*excitation)))


def se_backward_operator(
    grad: Tensor,
    x: Tensor,
    reduce: Tensor,
    expand: Tensor,
    squeezed: Tensor,
    hidden: Tensor,
    slopes: Tensor,
    gate: Tensor,
    silu: bool,  # noqa: FBT001 - the operator's schema
    hard: bool,  # noqa: FBT001
) -> tuple[Tensor, ...]:
    """Return the gradients of x, N x C x H x W, and of the weights, and of what goes into activation and gate."""
    x, grad = of_one_layout(x, grad)
    kept = Excited(x, squeezed, hidden, slopes, gate)
    with torch.cuda.device_of(x):
        gradients = se_backward(grad, x, kept, _excitation(reduce, expand, None, None, silu, hard))
    return gradients.x, gradients.reduce, gradients.expand, gradients.into_activation, gradients.into_gate


def _excitation(
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None,
    expand_bias: Tensor | None,
    silu: bool,  # noqa: FBT001 - the operator's schema
    hard: bool,  # noqa: FBT001
) -> Excitation:
    kind = "silu" if silu else "relu", "hardsigmoid" if hard else "sigmoid"
    return Excitation(reduce, expand, reduce_bias, expand_bias, *kind)


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "tail_training": tail_training_operator,
    "tail_backward": tail_backward_operator,
    "tail_scaling": tail_scaling_operator,
    "se_training": se_training_operator,
    "se_backward": se_backward_operator,
}
"""Operator of `operators.SCHEMAS` to what computes it on CUDA; the others are for the CPU alone."""

for _name, _implementation in IMPLEMENTATIONS.items():
    LIBRARY.impl(_name, _implementation, "CUDA")
