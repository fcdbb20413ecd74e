"""Reading of BatchNorm's tensors for the fused functions, and the update of its running statistics."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cnnperf.fusion.algebra import Frozen, Parameters
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.modules import key_of

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
KNOWN = (nn.BatchNorm2d, nn.SyncBatchNorm)


def is_batch_norm(norm: nn.Module) -> bool:
    """Return whether a module computes exactly BatchNorm, which a subclass may not.

    timm's BatchNormAct2d does if its dropout and activation are identities:
    https://github.com/huggingface/pytorch-image-models/blob/main/timm/layers/norm_act.py.
    """
    return type(norm) in KNOWN or _is_plain_norm_of_timm(norm)


def _is_plain_norm_of_timm(norm: nn.Module) -> bool:
    known = isinstance(norm, nn.BatchNorm2d) and key_of(type(norm)) == ("timm", "BatchNormAct2d")
    return known and all(type(getattr(norm, name, None)) is nn.Identity for name in ("drop", "act"))


def frozen(norm: BatchNorm, x: Tensor) -> Frozen:
    """Return the tensors of BatchNorm in inference in fp32 and contiguous, for a map x of N x C x H x W."""
    mean, variance = (cast(Tensor, small).float().contiguous() for small in (norm.running_mean, norm.running_var))
    weight, bias = (small.float().contiguous() for small in affine_of(norm, x))
    return Frozen(weight, bias, mean, variance, norm.eps)


def parameters_of(norm: BatchNorm, excitation: ExcitationWeights, x: Tensor) -> Parameters:
    """Return the parameters of a tail, contiguous and in fp32, or in fp64 if the map x is in fp64."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    tensors = (*affine_of(norm, x), *excitation)
    return Parameters(*[None if small is None else small.to(dtype).contiguous() for small in tensors])  # type: ignore[arg-type]  # only biases are None


def affine_of(norm: BatchNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias, C each; ones and zeros if BatchNorm has none."""
    if norm.affine:
        return norm.weight, norm.bias
    return x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])


def updates_statistics(norm: BatchNorm) -> bool:
    """Return whether a batch in training updates the running statistics of BatchNorm."""
    return norm.training and norm.track_running_stats and norm.running_mean is not None


@torch.no_grad()
def update_running_statistics(norm: BatchNorm, mu: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Update running mean and variance like `nn.BatchNorm2d`; with momentum None they are averages over all batches.

    Args:
        norm: BatchNorm in training.
        mu: Mean of the batch, C.
        variance: Biased variance of the batch, C.
        count: Number of values of a channel in the batch.
    """
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    batches = norm.num_batches_tracked
    if batches is not None:
        batches.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 0.0 if batches is None else 1 / float(batches)
    running_mean.lerp_(mu.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
