"""A Squeeze-and-Excitation block as one fused function: a C++ kernel on the CPU, torch.compile elsewhere."""

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from cnnperf.fusion import forms, native
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


class Gated(torch.autograd.Function):
    """Be `squeeze_and_excite` in C++, forward and backward; the backward cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, reduce: Tensor, expand: Tensor) -> Tensor:
        """Gate a map by weights in fp32."""
        batch, channels = x.shape[:2]
        hidden = reduce.shape[0]
        squeezed, gate = (torch.empty(batch, channels, dtype=torch.float32) for _ in range(2))
        excited, scratch = (torch.empty(rows, hidden, dtype=torch.float32) for rows in (batch, channels))
        out = torch.empty_like(x)
        native.call("se_forward", x, x, reduce, expand, hidden, out, squeezed, excited, gate, scratch)
        ctx.save_for_backward(x, reduce, expand, squeezed, excited, gate)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Compute the gradients of the map and both weights."""
        forms.refuse_second_derivative()
        x, reduce, expand, squeezed, excited, gate = ctx.saved_tensors
        grad = grad.contiguous(memory_format=forms.memory_format_of(x))
        gradients = tuple(torch.empty_like(one) for one in (x, reduce, expand))
        scratch = torch.empty(3 * squeezed.numel() + excited.numel() + 2 * reduce.numel(), dtype=torch.float32)
        kept = (squeezed, excited, gate)
        native.call("se_backward", x, x, grad, reduce, expand, reduce.shape[0], *kept, *gradients, scratch)
        return gradients


class FusedSEBlock(SEBlock):
    """Do what `SEBlock` does, with the same state_dict, in one fused function.

    On the CPU that is a C++ kernel for maps in fp32 and bf16; everything else goes through torch.compile, with one
    compiled function for all blocks of a width. The block itself holds neither, so it copies and pickles like any
    module. Within an outer torch.compile or torch.export it is part of the outer graph, and on meta and fake
    tensors, which hold no numbers, it is not compiled.

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
        if self._runs_native(x):
            weights = (weight.float().contiguous() for weight in (self.reduce.weight, self.expand.weight))
            gated = Gated.apply(x.contiguous(memory_format=forms.memory_format_of(x)), *weights)  # type: ignore[no-untyped-call]
            return cast(Tensor, gated)
        gate = squeeze_and_excite if _is_only_traced(x) else _compiled(hidden, channels)
        return gate(x, self.reduce.weight, self.expand.weight)

    def _runs_native(self, x: Tensor) -> bool:
        if _is_only_traced(x) or torch.is_autocast_enabled(x.device.type):
            return False
        return forms.fits_channels(x, self.reduce.weight, self.expand.weight) and forms.fits_native(x)


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
