"""Squeeze-and-Excitation alone as one fused function, in every shape that networks give it.

The two products may have biases, the hidden activation may be ReLU or SiLU, and the gate a logistic or a hard sigmoid:
what the SE blocks of this project, torchvision and timm are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cnnperf.fusion import forms, gpu, maps, operators

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": F.silu}
"""What may follow the first product."""

GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}
"""What may follow the second product."""


ExcitationWeights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Weights of both products of an excitation, C/r x C and C x C/r, and their biases, C/r and C, or None."""


class Excitation(NamedTuple):
    """Describe the excitation: gate(expand activation(reduce z + reduce_bias) + expand_bias).

    Source: Hu et al., "Squeeze-and-Excitation Networks", 2017, section 3, equation 3, https://arxiv.org/abs/1709.01507.

    Attributes:
        reduce: Weight of the first product, C/r x C, or C/r x C x 1 x 1 where it is a 1x1 convolution.
        expand: Weight of the second product, C x C/r, or C x C/r x 1 x 1.
        reduce_bias: C/r, or None.
        expand_bias: C, or None.
        activation: A key of `ACTIVATIONS`.
        gate: A key of `GATES`.
    """

    reduce: Tensor
    expand: Tensor
    reduce_bias: Tensor | None = None
    expand_bias: Tensor | None = None
    activation: str = "relu"
    gate: str = "sigmoid"


def squeeze_and_excite(x: Tensor, excitation: Excitation) -> Tensor:
    """Gate a feature map by its squeezed and excited means, operator by operator.

    Source: Hu et al., 2017, section 3, equations 2 to 4.

    Args:
        x: N x C x H x W.
        excitation: With weights of two dimensions.

    Returns:
        N x C x H x W.
    """
    reduce, expand, reduce_bias, expand_bias, activation, gate = excitation
    hidden = ACTIVATIONS[activation](F.linear(x.mean(dim=(2, 3)), reduce, reduce_bias))
    return x * GATES[gate](F.linear(hidden, expand, expand_bias))[:, :, None, None]


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
    """Be `squeeze_and_excite` in C++, forward and backward; the backward cannot be differentiated again."""

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
