"""Requirements of the fused functions on a map, N x C x H x W, and on the small tensors of its channels.

A function named `not_...` returns the reason why tensors do not meet a requirement, or None if they meet it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAP_DIMENSIONS = 4  # N, C, H, W


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return channels_last for a map that is channels_last and not contiguous too, otherwise contiguous."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an uninitialized map with the shape and memory format of x, but not with other strides of x."""
    return torch.empty_like(x, dtype=dtype or x.dtype, memory_format=memory_format_of(x))


_PLAIN = frozenset({Tensor, nn.Parameter})


def not_readable(*tensors: Tensor) -> str | None:
    """Return why kernels cannot read the values of tensors outside of a compilation; None if they can."""
    for tensor in tensors:
        if type(tensor) not in _PLAIN:
            return "a tensor of another class holds its values elsewhere"
        if tensor.is_meta:
            return "a meta tensor has no values"
    # PyTorch has no public functions for these two states.
    if torch.autograd.forward_ad._current_level >= 0:  # noqa: SLF001
        return "forward-mode differentiation needs PyTorch's own operators"
    if torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001
        return "a function transform needs PyTorch's own operators"
    return None


def not_alike(x: Tensor, *others: Tensor) -> str | None:
    """Return why maps do not have one shape, device and floating-point dtype; None if they do. They may be empty."""
    if not x.is_floating_point():
        return f"the map is in {x.dtype}, which is not a floating-point dtype"
    for other in others:
        if other.shape != x.shape or other.dtype != x.dtype or other.device != x.device:
            return "the maps differ in shape, dtype or device"
    return None


def not_for_channels(x: Tensor, *small: Tensor | None) -> str | None:
    """Return why tensors with one value a channel (C, or None) do not fit a map; None if they do."""
    if x.dim() != MAP_DIMENSIONS:
        return f"the map has {x.dim()} dimensions, not {MAP_DIMENSIONS}"
    for tensor in small:
        if tensor is not None and (tensor.shape != x.shape[1:2] or tensor.device != x.device):
            return "BatchNorm or a bias is for another number of channels or on another device"
    return None


def not_for_excitation(
    x: Tensor, reduce: Tensor, expand: Tensor, reduce_bias: Tensor | None = None, expand_bias: Tensor | None = None
) -> str | None:
    """Return why the weights and biases of an excitation do not fit a map; None if they do.

    The kernels do not check addresses. Tensors that do not fit go to PyTorch's own operators, which raise an error.
    """
    if reduce.shape != expand.shape[::-1] or reduce.shape[1:] != x.shape[1:2]:
        return "the excitation is for another number of channels"
    if reduce_bias is not None and (reduce_bias.shape != reduce.shape[:1] or reduce_bias.device != x.device):
        return "the first bias of the excitation has another size or is on another device"
    if reduce.device != x.device or expand.device != x.device:
        return "the excitation is on another device"
    return not_for_channels(x, expand_bias)


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Return whether autograd records operations on any of these tensors."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def refuse_second_derivative() -> None:
    """Raise in a backward that is itself differentiated, whose gradients would be silently wrong.

    Raises:
        RuntimeError: If the backward runs with `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "fused Squeeze-and-Excitation has no second derivative (create_graph=True); call "
            "cnnperf.fusion.unfuse(model) to compute it with PyTorch's own operators"
        )
