"""The tail of a residual block, relu(SE(BatchNorm(x)) + shortcut), with the fewest passes over its map.

Pure functions on tensors, the reference for the compiled form and the C++ kernels. A *pass* reads or writes one map of
N x C x H x W once; all other tensors are N x C or smaller.

Sources: Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1, https://arxiv.org/abs/1502.03167; Hu et al.,
"Squeeze-and-Excitation Networks", 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507. docs/fusion.md
derives the squeeze of the normalized map from BatchNorm's own statistics, and the whole backward from two sums for each
channel and sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

Merge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Function from mean and biased variance of this process's part of a batch, C each, to those of the whole batch."""

Add = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Function from two sums over a part of a batch, C each, to those over the whole and its number of values a channel."""


class Forward(NamedTuple):
    """Results of the forward of the tail; all but `out` are saved for the backward.

    Attributes:
        out: Output, N x C x H x W, in the dtype of x.
        mask: 1 where out is above 0, N x C x H x W, uint8.
        mean: Mean of each channel of each sample, N x C.
        mu: Mean of each channel over the batch, C.
        variance: Biased variance of each channel over the batch, C.
        squeezed: Means of the normalized map, N x C.
        hidden: Hidden values of the excitation after ReLU, N x C/r.
        gate: Gate, N x C.
    """

    out: Tensor
    mask: Tensor
    mean: Tensor
    mu: Tensor
    variance: Tensor
    squeezed: Tensor
    hidden: Tensor
    gate: Tensor


class Parameters(NamedTuple):
    """Parameters of a tail.

    Attributes:
        weight: Weight of BatchNorm, C.
        bias: Bias of BatchNorm, C.
        reduce: Weight of the excitation's first product, C/r x C.
        expand: Weight of its second product, C x C/r.
        reduce_bias: Bias of the first product, C/r, or None.
        expand_bias: Bias of the second product, C, or None.
    """

    weight: Tensor
    bias: Tensor
    reduce: Tensor
    expand: Tensor
    reduce_bias: Tensor | None = None
    expand_bias: Tensor | None = None


class Gradients(NamedTuple):
    """Gradients of x and shortcut, N x C x H x W, and of the parameters, in their shapes.

    Gradients of the excitation's biases are also computed for a tail without biases; the caller drops them.
    """

    x: Tensor
    shortcut: Tensor
    weight: Tensor
    bias: Tensor
    reduce: Tensor
    expand: Tensor
    reduce_bias: Tensor | None = None
    expand_bias: Tensor | None = None


def excite(
    squeezed: Tensor,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return hidden values, N x C/r, and gate, N x C, for squeezed means, N x C (Hu et al., equation 3)."""
    hidden = torch.relu(linear(squeezed, reduce, reduce_bias))
    return hidden, torch.sigmoid(linear(hidden, expand, expand_bias))


def batch_moments(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the batch's mean and biased variance, C, from those of the samples, N x C.

    By the law of total variance: the variance within the samples plus the variance between them.
    """
    mu = mean.mean(0)
    return mu, variance.mean(0) + (mean - mu).square().mean(0)


def tail_forward(
    x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float, merge: Merge | None = None
) -> Forward:
    """Compute the tail in training: 4 passes and the mask.

    Args:
        x: Output of the last convolution, N x C x H x W.
        shortcut: N x C x H x W.
        parameters: Parameters of BatchNorm and excitation.
        eps: BatchNorm's eps, which is added to the variance.
        merge: Exchange of moments, if the batch is spread over processes.

    Returns:
        The output and the tensors for the backward. Small tensors have the dtype of the parameters.
    """
    wide = x.to(parameters.weight.dtype)
    # One pass: both sums are one reduction. Deviations from the first pixel keep a large mean from cancelling the
    # variance.
    origin = wide[:, :, :1, :1]
    shifted = wide - origin
    first, second = shifted.mean((2, 3)), shifted.square().mean((2, 3))
    mean, within = origin[:, :, 0, 0] + first, (second - first.square()).clamp(min=0)
    mu, variance = batch_moments(mean, within)
    if merge is not None:
        mu, variance = merge(mu, variance)
    slope = parameters.weight * torch.rsqrt(variance + eps)
    squeezed = (mean - mu) * slope + parameters.bias
    hidden, gate = excite(squeezed, *parameters[2:])
    scale, offset = slope * gate, (parameters.bias - mu * slope) * gate
    total = wide * scale[:, :, None, None] + offset[:, :, None, None] + shortcut
    out = torch.relu(total).to(x.dtype)
    return Forward(out, (total > 0).to(torch.uint8), mean, mu, variance, squeezed, hidden, gate)


def norm_gradients(saved: Forward, s1: Tensor, s2: Tensor, dsqueezed: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the gradients of BatchNorm's weight and bias, C each.

    Args:
        saved: Results of the forward.
        s1: Sums over H and W of p, the gradient of the shortcut, N x C.
        s2: Sums over H and W of p (x - mu), N x C.
        dsqueezed: Gradient of the squeezed means, N x C.
        eps: BatchNorm's eps.
    """
    dweight = (saved.gate * s2 + dsqueezed * (saved.mean - saved.mu)).sum(0)
    return dweight * torch.rsqrt(saved.variance + eps), (saved.gate * s1 + dsqueezed).sum(0)


class Coefficients(NamedTuple):
    """Coefficients of dx = p passed + x of_x + constant, of shapes N x C, C and N x C."""

    passed: Tensor
    of_x: Tensor
    constant: Tensor


def coefficients(
    saved: Forward,
    weight: Tensor,
    dsqueezed: Tensor,
    sums: tuple[Tensor, Tensor],
    sizes: tuple[int, Tensor | int],
    eps: float,
) -> Coefficients:
    """Return the coefficients of the gradient of x.

    Args:
        saved: Results of the forward.
        weight: Weight of BatchNorm, C.
        dsqueezed: Gradient of the squeezed means, N x C.
        sums: Results of `norm_gradients` over the whole batch.
        sizes: Number of pixels of a sample, and of values of a channel in the whole batch.
        eps: BatchNorm's eps.
    """
    (dweight, dbias), (pixels, values) = sums, sizes
    inverse = torch.rsqrt(saved.variance + eps)
    slope = weight * inverse
    of_x = -slope * inverse * dweight / values
    return Coefficients(slope * saved.gate, of_x, slope * (dsqueezed / pixels - dbias / values) - of_x * saved.mu)


def tail_backward(
    grad: Tensor, x: Tensor, saved: Forward, parameters: Parameters, eps: float, add: Add | None = None
) -> Gradients:
    """Compute the gradients of the tail in training: 6 passes and the mask.

    Args:
        grad: Gradient of the output, N x C x H x W.
        x: As in the forward.
        saved: Results of the forward; `out` is not used.
        parameters: As in the forward.
        eps: As in the forward.
        add: Exchange of sums, if the batch is spread over processes.

    Returns:
        All gradients; those of the parameters are for this process's part of the batch.
    """
    weight, bias, reduce, expand, *_ = parameters
    slope = weight * torch.rsqrt(saved.variance + eps)
    wide = x.to(weight.dtype)
    # p is the gradient of the shortcut. It is computed twice, by different expressions, so that a compiler takes the
    # sums from grad and mask in one pass, instead of writing p first and reading it for each sum.
    p = torch.where(saved.mask != 0, grad, 0).to(weight.dtype)
    s1 = p.sum((2, 3))
    # With deviations from the sample's own mean, Inductor (2.13) keeps both sums in one kernel and nothing cancels.
    s2 = (p * (wide - saved.mean[:, :, None, None])).sum((2, 3)) + (saved.mean - saved.mu) * s1
    dgate = slope * s2 + bias * s1
    dexcited = dgate * saved.gate * (1 - saved.gate)
    dhidden = (dexcited @ expand) * (saved.hidden > 0)
    dsqueezed = dhidden @ reduce
    dweight, dbias = norm_gradients(saved, s1, s2, dsqueezed, eps)
    *sums, values = (dweight, dbias, x.numel() // x.shape[1]) if add is None else add(dweight, dbias)
    by = coefficients(saved, weight, dsqueezed, (sums[0], sums[1]), (x[0, 0].numel(), values), eps)
    p = torch.where(saved.mask == 0, 0, grad).to(weight.dtype)
    dx = p * by.passed[:, :, None, None] + wide * by.of_x[:, None, None] + by.constant[:, :, None, None]
    dreduce, dexpand = dhidden.t() @ saved.squeezed, dexcited.t() @ saved.hidden
    maps = dx.to(x.dtype), p.to(x.dtype)
    return Gradients(*maps, dweight, dbias, dreduce, dexpand, dhidden.sum(0), dexcited.sum(0))


class Frozen(NamedTuple):
    """Tensors of BatchNorm in inference: weight, bias, running mean and running variance, C each, and eps."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor
    eps: float


def tail_scaling(
    squeezed: Tensor,
    norm: Frozen,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the tail in inference, which is relu(x scale + shift + shortcut).

    Args:
        squeezed: Means of x over H and W, N x C.
        norm: BatchNorm, which is linear in inference.
        reduce: C/r x C.
        expand: C x C/r.
        reduce_bias: C/r, or None.
        expand_bias: C, or None.

    Returns:
        Scale and shift, N x C each.
    """
    slope = norm.weight * torch.rsqrt(norm.variance + norm.eps)
    offset = norm.bias - norm.mean * slope
    _, gate = excite(squeezed * slope + offset, reduce, expand, reduce_bias, expand_bias)
    return slope * gate, offset * gate


def tail_inference(
    x: Tensor,
    shortcut: Tensor,
    norm: Frozen,
    reduce: Tensor,
    expand: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
) -> Tensor:
    """Compute the tail in inference: 4 passes, or 3 if a sample stays in cache.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        norm: BatchNorm.
        reduce: C/r x C.
        expand: C x C/r.
        reduce_bias: C/r, or None.
        expand_bias: C, or None.

    Returns:
        N x C x H x W.
    """
    wide = x.to(norm.weight.dtype)
    scale, shift = tail_scaling(wide.mean((2, 3)), norm, reduce, expand, reduce_bias, expand_bias)
    return apply_scaling(wide, shortcut, scale, shift).to(x.dtype)


def apply_scaling(x: Tensor, shortcut: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return relu(x scale + shift + shortcut), N x C x H x W, for scale and shift, N x C: 3 passes."""
    return torch.relu(x * scale[:, :, None, None] + shift[:, :, None, None] + shortcut)
