"""Squeeze-and-Excitation alone as one fused function."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor

from cnnperf.fusion import forms, gpu, maps, operators
from cnnperf.fusion.excitation import Excitation, squeeze_and_excite


def gate_map(x: Tensor, excitation: Excitation) -> Tensor:
    """Gate a feature map in the fastest form that takes it.

    Args:
        x: N x C x H x W.
        excitation: Its weights may be those of 1x1 convolutions.

    Returns:
        N x C x H x W. In an export and on meta and fake tensors the textbook formula is computed; what else the kernels
        do not take, under autocast for instance, is left to torch.compile.
    """
    excitation = excitation._replace(reduce=_matrix(excitation.reduce), expand=_matrix(excitation.expand))
    if not _runs_in_kernels(x, excitation):
        # Compiled kernels read memory that meta and fake tensors lack; with the latter PyTorch 2.13 crashes.
        plain = not torch.compiler.is_compiling() and maps.is_plain(x)
        form = _compiled(*excitation.reduce.shape) if plain else squeeze_and_excite
        return form(x, excitation)
    *_, activation, gate = excitation
    tensors = (None if one is None else one.float().contiguous() for one in excitation[:4])
    flags = activation == "silu", gate == "hardsigmoid"
    if torch.compiler.is_compiling():
        return cast(Tensor, operators.se_training(x, *tensors, *flags)[0])
    if x.is_cuda:
        return gpu.gate_map(x, Excitation._make((*tensors, activation, gate)))
    return cast(Tensor, Gated.apply(x, *tensors, *flags))  # type: ignore[no-untyped-call]


class Gated(torch.autograd.Function):
    """`squeeze_and_excite` in C++, forward and backward; the backward cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *excitation: Any) -> Tensor:
        """Gate a map by an excitation whose tensors are in fp32; last come whether it has SiLU and the hard sigmoid."""
        out, *kept = operators.se_forward(x, *excitation)
        *tensors, silu, hard = excitation
        ctx.flags, ctx.biased = (silu, hard), [bias is not None for bias in tensors[2:]]
        ctx.save_for_backward(x, *tensors[:2], *kept)
        return cast(Tensor, out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute the gradients of the map, both weights and both biases."""
        return operators.se_gradients(ctx, grad)


def _matrix(weight: Tensor) -> Tensor:
    return weight.flatten(1) if weight.dim() > 2 else weight  # noqa: PLR2004 - the dimensions of a matrix


def _runs_in_kernels(x: Tensor, excitation: Excitation) -> bool:
    if torch.compiler.is_exporting() or not (torch.compiler.is_compiling() or maps.is_plain(x)):
        return False
    if torch.is_autocast_enabled(x.device.type):
        return False
    reduce, expand, reduce_bias, expand_bias, *_ = excitation
    return maps.fits_excitation(x, reduce, expand, reduce_bias, expand_bias) and forms.fits_kernels(x)


@cache
def _compiled(hidden: int, channels: int) -> Callable[[Tensor, Excitation], Tensor]:
    # Dynamo counts its recompile limit (8) per code object and specializes on the weights' shapes: with one
    # code object the four widths of a ResNet, in training and in inference, would use it up. A copy gives
    # each width a limit of its own.
    name = f"squeeze_and_excite_{channels}_{hidden}"
    code = squeeze_and_excite.__code__.replace(co_name=name)
    return cast(
        Callable[[Tensor, Excitation], Tensor],
        torch.compile(FunctionType(code, squeeze_and_excite.__globals__, name)),
    )
