"""The excitation and the textbook formula of Squeeze-and-Excitation, in all variants.

The two products may have biases, the hidden activation may be ReLU or SiLU, and the gate a logistic or a hard sigmoid.
This covers the SE blocks of this project, torchvision and timm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": F.silu}
"""Activations after the first product."""

GATES: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid}
"""Activations after the second product."""

ExcitationWeights = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Weights of both products of an excitation, C/r x C and C x C/r, and their biases, C/r and C, or None."""


class Excitation(NamedTuple):
    """The excitation: gate(expand activation(reduce z + reduce_bias) + expand_bias).

    Source: Hu et al., "Squeeze-and-Excitation Networks", 2017, section 3, equation 3, https://arxiv.org/abs/1709.01507.

    Attributes:
        reduce: Weight of the first product, C/r x C, or C/r x C x 1 x 1 if it is a 1x1 convolution.
        expand: Weight of the second product, C x C/r, or C x C/r x 1 x 1.
        reduce_bias: Bias of the first product, C/r, or None.
        expand_bias: Bias of the second product, C, or None.
        activation: Key of `ACTIVATIONS`.
        gate: Key of `GATES`.
    """

    reduce: Tensor
    expand: Tensor
    reduce_bias: Tensor | None = None
    expand_bias: Tensor | None = None
    activation: str = "relu"
    gate: str = "sigmoid"


def flags_of(excitation: Excitation) -> tuple[bool, bool]:
    """Return whether an excitation has SiLU, and whether it has the hard sigmoid."""
    return excitation.activation == "silu", excitation.gate == "hardsigmoid"


def in_float32(small: Sequence[Tensor | None]) -> list[Any]:
    """Return weights and biases in fp32 and contiguous, as the C++ kernels need them; None stays None."""
    return [None if tensor is None else tensor.float().contiguous() for tensor in small]


def squeeze_and_excite(x: Tensor, excitation: Excitation) -> Tensor:
    """Gate a feature map, operator by operator.

    Source: Hu et al., 2017, section 3, equations 2 to 4.

    Args:
        x: N x C x H x W.
        excitation: Excitation with weights of two dimensions.

    Returns:
        N x C x H x W.
    """
    reduce, expand, reduce_bias, expand_bias, activation, gate = excitation
    hidden = ACTIVATIONS[activation](F.linear(x.mean(dim=(2, 3)), reduce, reduce_bias))
    return x * GATES[gate](F.linear(hidden, expand, expand_bias))[:, :, None, None]
