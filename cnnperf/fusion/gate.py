"""Squeeze-and-Excitation alone as one fused function."""

from __future__ import annotations

import torch
from torch import Tensor

from cnnperf.fusion import maps
from cnnperf.fusion.backends import BACKENDS, UNCHECKED, backend_for
from cnnperf.fusion.excitation import Excitation


def gate_map(x: Tensor, excitation: Excitation) -> Tensor:
    """Gate a feature map in the first backend that takes it.

    In an export and for meta and fake tensors that is the textbook formula. Other maps that no kernel takes, for
    instance under autocast, go through torch.compile.

    Args:
        x: N x C x H x W.
        excitation: Excitation whose weights may be those of 1x1 convolutions.

    Returns:
        N x C x H x W.
    """
    excitation = excitation._replace(reduce=_matrix(excitation.reduce), expand=_matrix(excitation.expand))
    kind = x.device.type
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    needs_pytorch = autocast or maps.not_for_excitation(x, *excitation[:4]) is not None
    backend = backend_for(x, among=UNCHECKED if needs_pytorch else BACKENDS)
    return backend.gate(x, excitation)


def _matrix(weight: Tensor) -> Tensor:
    return weight.flatten(1) if weight.dim() > 2 else weight  # noqa: PLR2004 - the dimensions of a matrix
