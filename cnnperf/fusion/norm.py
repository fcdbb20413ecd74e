"""What the fused forms take from a BatchNorm, and what they leave in it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from cnnperf.fusion.algebra import Frozen, Parameters
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.foreign import FusedForeignSE, key_of
from cnnperf.models.squeeze_excitation import SEBlock

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
SE = SEBlock | FusedForeignSE
KNOWN = (nn.BatchNorm2d, nn.SyncBatchNorm)


def is_batch_norm(norm: nn.Module) -> bool:
    """Tell whether a module is BatchNorm and nothing else; a subclass may compute something else.

    timm's BatchNormAct2d is that where its dropout and activation are identities:
    https://github.com/huggingface/pytorch-image-models/blob/main/timm/layers/norm_act.py.
    """
    return type(norm) in KNOWN or _is_plain_norm_of_timm(norm)


def _is_plain_norm_of_timm(norm: nn.Module) -> bool:
    known = isinstance(norm, nn.BatchNorm2d) and key_of(type(norm)) == ("timm", "BatchNormAct2d")
    return known and all(type(getattr(norm, name, None)) is nn.Identity for name in ("drop", "act"))


def frozen(norm: BatchNorm, x: Tensor) -> Frozen:
    """Return BatchNorm in inference as the kernels take it, in float32, for a map of its channels."""
    mean, variance = (cast(Tensor, one).float().contiguous() for one in (norm.running_mean, norm.running_var))
    weight, bias = (one.float().contiguous() for one in affine_of(norm, x))
    return Frozen(weight, bias, mean, variance, norm.eps)


def parameters_of(norm: BatchNorm, se: SE, x: Tensor) -> Parameters:
    """Return the parameters in the dtype that the small tensors are computed in: at least fp32."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    given = (*affine_of(norm, x), *excitation_of(se))
    return Parameters(*[None if one is None else one.to(dtype).contiguous() for one in given])  # type: ignore[arg-type]  # only biases are None


def excitation_of(se: SE) -> ExcitationWeights:
    """Return the weights and biases of both products of an SE block."""
    if isinstance(se, FusedForeignSE):
        return se.weights()
    reduce, expand = se.reduce, se.expand
    return reduce.weight, expand.weight, reduce.bias, expand.bias


def affine_of(norm: BatchNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight and bias, C each; ones and zeros where there are none."""
    if norm.affine:
        return norm.weight, norm.bias
    return x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])


@torch.no_grad()
def update_running_statistics(norm: BatchNorm, mu: Tensor, variance: Tensor, count: Tensor | int) -> None:
    """Do what `nn.BatchNorm2d` does: with momentum None, the cumulative mean of all batches.

    Args:
        norm: Whose statistics are moved.
        mu: Mean of the batch, C.
        variance: Biased, C.
        count: Values of a channel in the batch.
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
