"""The fused functions in C++ kernels on the CPU, for maps in one of `DTYPES` with any strides."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from cnnperf.fusion import algebra, maps, operators
from cnnperf.fusion.algebra import Add, Forward, Gradients, Merge, Parameters
from cnnperf.fusion.excitation import Excitation, ExcitationWeights, flags_of, in_float32
from cnnperf.fusion.native.build import DTYPES, available
from cnnperf.fusion.norm import BatchNorm, affine_of, frozen


def takes(x: Tensor, *others: Tensor) -> str | None:
    """Return why the kernels do not take maps; None if they do."""
    for other in others:
        if not (other.is_cpu and other.dtype is x.dtype and other.shape == x.shape):
            return "the maps differ in shape, dtype or device"
    if not x.is_cpu:
        return "the map is not on the CPU"
    if x.dtype not in DTYPES:
        return f"the map is in {x.dtype}; the kernels take {' and '.join(map(str, DTYPES))}"
    if x.numel() == 0:
        return "the map is empty"
    return None if available() else "the kernels could not be built"


def takes_norm(x: Tensor, norm: BatchNorm) -> str | None:
    """Return why the kernels do not compute BatchNorm of a map in inference; None if they do."""
    small = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return maps.not_for_channels(x, *small) or takes(x)


class Tail(torch.autograd.Function):
    """`halves.Tail` in C++, which also updates the running statistics."""

    @staticmethod
    def forward(
        ctx: Any, eps: float, running: tuple[Any, ...], x: Tensor, shortcut: Tensor, *parameters: Tensor | None
    ) -> Any:
        """Compute the output; `running` holds mean, variance, count of batches and momentum, or is empty."""
        out, *saved = operators.tail_forward(x, shortcut, *parameters, eps, *running)
        ctx.eps = eps
        ctx.save_for_backward(x, *saved, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute all gradients from the gradient of the output."""
        maps.refuse_second_derivative()
        saved = ctx.saved_tensors
        return None, None, *operators.of_present(operators.tail_backward(grad, *saved, ctx.eps), saved[-2:])


def train_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights) -> Tensor | None:
    """Return the tail in training and update the running statistics; None if the kernels do not take a small tensor.

    Each attribute is read once and few functions are called. Between the layers of a network the interpreter's own data
    have left the cache, and the checks alone took a tenth of a training step with a map of 32x512x4x4.
    """
    weight, bias, mean, variance, batches = (
        norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked,
    )  # fmt: skip
    for small in (weight, bias, mean, variance, batches, *excitation):
        if not (small is None or small.is_cpu):
            return None
    if batches is not None and batches.dtype is not torch.int64:
        return None
    affine = (weight, bias) if norm.affine else affine_of(norm, x)
    parameters = _in_float32(*affine, *excitation)
    if mean is None or variance is None or not (norm.training and norm.track_running_stats):
        return cast(Tensor, Tail.apply(norm.eps, (), x, shortcut, *parameters))  # type: ignore[no-untyped-call]
    new_mean, new_variance = cast(tuple[Tensor, Tensor], _in_float32(mean, variance))  # the kernel updates these
    running = (new_mean, new_variance, batches, norm.momentum)
    out = Tail.apply(norm.eps, running, x, shortcut, *parameters)  # type: ignore[no-untyped-call]
    for old, new in ((mean, new_mean), (variance, new_variance)):
        if new is not old:
            old.copy_(new)
    return cast(Tensor, out)


def _in_float32(*small: Tensor | None) -> tuple[Tensor | None, ...]:
    for tensor in small:
        if tensor is not None and tensor.dtype is not torch.float32:
            return tuple(None if other is None else other.float() for other in small)
    return small


def infer_tail(
    x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, squeezed: Tensor | None
) -> Tensor:
    """Return the tail in inference, N x C x H x W."""
    return cast(Tensor, operators.tail_inference(x, shortcut, squeezed, *frozen(norm, x), *in_float32(excitation)))


def gate(x: Tensor, excitation: Excitation) -> Tensor:
    """Return the gated map, N x C x H x W, differentiable once."""
    return cast(Tensor, Gated.apply(x, *in_float32(excitation[:4]), *flags_of(excitation)))  # type: ignore[no-untyped-call]


class Gated(torch.autograd.Function):
    """`squeeze_and_excite` in C++; the backward raises RuntimeError if it is differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *excitation: Any) -> Tensor:
        """Gate a map; `excitation` holds weights and biases in fp32, and whether it has SiLU and the hard sigmoid."""
        out, *saved = operators.se_forward(x, *excitation)
        *tensors, silu, hard = excitation
        ctx.flags, ctx.biased = (silu, hard), [bias is not None for bias in tensors[2:]]
        ctx.save_for_backward(x, *tensors[:2], *saved)
        return cast(Tensor, out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute the gradients of the map, both weights and both biases."""
        return operators.se_gradients(ctx, grad)


def tail_forward(
    x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float, merge: Merge | None = None
) -> Forward:
    """Compute `algebra.tail_forward`."""
    mean, within = operators.tail_moments(x)
    mu, variance = algebra.batch_moments(mean, within)
    if merge is not None:
        mu, variance = merge(mu, variance)
    out, mask, *small = operators.tail_normalized(x, shortcut, mean, mu, variance, *parameters, eps)
    return Forward(out, mask, mean, mu, variance, *small)


def tail_backward(
    grad: Tensor, x: Tensor, saved: Forward, parameters: Parameters, eps: float, add: Add | None = None
) -> Gradients:
    """Compute `algebra.tail_backward`."""
    passed, *small, dsqueezed = operators.tail_sums(grad, x, *saved[1:], *parameters, eps)
    of_batch = (saved.mu, saved.variance, saved.gate, dsqueezed, parameters.weight)
    sums, values = small[:2], float(x.numel() // x.shape[1])
    if add is not None:
        *sums, count = add(*sums)
        values = float(count)
    dx = operators.tail_blend(passed, x, *of_batch, *sums, eps, values)
    return Gradients(dx, passed, *small)
