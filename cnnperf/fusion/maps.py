"""What the fused forms ask of a map, N x C x H x W, and of what belongs to its channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MAP_DIMENSIONS = 4  # N, C, H, W


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return channels_last where a map is that and nothing else, contiguous otherwise."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty map of the shape and memory format of x: what a kernel makes, whatever the strides of x are."""
    return torch.empty_like(x, dtype=dtype or x.dtype, memory_format=memory_format_of(x))


_PLAIN = frozenset({Tensor, nn.Parameter})


def is_plain(*tensors: Tensor) -> bool:
    """Tell whether kernels can read the numbers of tensors, outside of a compilation.

    Not those of a meta or fake tensor or of another class, and not while a function transform or forward mode follows:
    for these there are PyTorch's own operators.
    """
    for one in tensors:
        if type(one) not in _PLAIN or one.is_meta:
            return False
    # There is no public way to ask for these two.
    forward_mode = torch.autograd.forward_ad._current_level >= 0  # noqa: SLF001
    return not forward_mode and torch._C._functorch.peek_interpreter_stack() is None  # noqa: SLF001


def wants_gradient(*tensors: Tensor | None) -> bool:
    """Tell whether autograd would record what is done with these tensors."""
    return torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in tensors)


def refuse_second_derivative() -> None:
    """Raise in a backward whose own gradients are wanted, which would be silently wrong.

    Raises:
        RuntimeError: If the backward runs with `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "fused Squeeze-and-Excitation has no second derivative (create_graph=True); call "
            "cnnperf.fusion.unfuse(model) to compute it with PyTorch's own operators"
        )


def fits_excitation(
    x: Tensor, reduce: Tensor, expand: Tensor, reduce_bias: Tensor | None = None, expand_bias: Tensor | None = None
) -> bool:
    """Tell whether the weights and biases of an excitation belong to the channels of a map and lie on its device.

    Kernels read by address: what does not fit goes to PyTorch's own operators, which say what is wrong.
    """
    if x.dim() != MAP_DIMENSIONS or reduce.shape != expand.shape[::-1] or reduce.shape[1:] != x.shape[1:2]:
        return False
    hidden = reduce_bias is None or (reduce_bias.shape == reduce.shape[:1] and reduce_bias.device == x.device)
    return hidden and reduce.device == expand.device == x.device and fits_norm(x, expand_bias)


def fits_norm(x: Tensor, *of_channels: Tensor | None) -> bool:
    """Tell whether what a map's channels are given, or None, has their number and lies on the map's device."""
    present = [one for one in of_channels if one is not None]
    return x.dim() == MAP_DIMENSIONS and all(one.shape == x.shape[1:2] and one.device == x.device for one in present)
