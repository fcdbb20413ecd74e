"""A Squeeze-and-Excitation block whose forward and backward are compiled with torch.compile.

It can be slower than `SEBlock`, above all on a CPU and where the feature map sits in cache: measure before
using it.
"""

from collections.abc import Callable
from functools import cache
from types import FunctionType

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from cnnperf.models.squeeze_excitation import SEBlock

Gate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What gates a feature map by two weights: `squeeze_and_excite` or a compiled copy of it."""


def squeeze_and_excite(x: Tensor, reduce: Tensor, expand: Tensor) -> Tensor:
    """Gate a feature map: x * sigmoid(expand relu(reduce mean(x))).

    Source: Hu et al., "Squeeze-and-Excitation Networks", 2017, section 3, equations 2 to 4,
    https://arxiv.org/abs/1709.01507.

    Args:
        x: N x C x H x W.
        reduce: The first weight, C/r x C.
        expand: The second weight, C x C/r.

    Returns:
        N x C x H x W.
    """
    squeezed = x.mean(dim=(2, 3))
    gate = torch.sigmoid(F.linear(torch.relu(F.linear(squeezed, reduce)), expand))
    return x * gate[:, :, None, None]


class FusedSEBlock(SEBlock):
    """Do what `SEBlock` does, with the same state_dict, through one compiled function.

    Blocks of equal width share their compiled function. The block itself holds none, so it copies and pickles
    like any module. Within an outer torch.compile or torch.export it is part of the outer graph, and on meta
    and fake tensors, which hold no numbers, it is not compiled.

    Source: Hu et al., 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gate a feature map.

        Args:
            x: N x C x H x W.

        Returns:
            N x C x H x W.
        """
        hidden, channels = self.reduce.weight.shape
        gate = squeeze_and_excite if _is_only_traced(x) else _compiled(hidden, channels)
        return gate(x, self.reduce.weight, self.expand.weight)


def _is_only_traced(x: Tensor) -> bool:
    # Compiled kernels read memory that meta and fake tensors lack; with the latter PyTorch 2.13 crashes.
    return torch.compiler.is_compiling() or x.is_meta or isinstance(x, FakeTensor)


@cache
def _compiled(hidden: int, channels: int) -> Gate:
    # Dynamo counts its recompile limit (8) per code object and specializes on the weights' shapes: with one
    # code object the four widths of a ResNet, in training and in inference, would use it up. A copy gives
    # each width a limit of its own.
    name = f"squeeze_and_excite_{channels}_{hidden}"
    code = squeeze_and_excite.__code__.replace(co_name=name)
    compiled: Gate = torch.compile(FunctionType(code, squeeze_and_excite.__globals__, name))
    return compiled
