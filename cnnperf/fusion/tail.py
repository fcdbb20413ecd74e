"""The fused tail of a residual block: relu(SE(BatchNorm(x)) + shortcut) as one differentiable function."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnperf.fusion import maps
from cnnperf.fusion.backends import NATIVE, Backend, backend_for
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.foreign import FusedForeignSE
from cnnperf.fusion.halves import train_by_halves
from cnnperf.fusion.native import functions as native
from cnnperf.fusion.norm import BatchNorm, is_batch_norm
from cnnperf.fusion.synchronized import group_of, synchronized_tail
from cnnperf.models.squeeze_excitation import SEBlock

SE = SEBlock | FusedForeignSE


def fused_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE, squeezed: Tensor | None = None) -> Tensor:
    """Return relu(se(norm(x)) + shortcut), and update the running statistics as `norm` does.

    If no fused form applies, the textbook formula is computed. That is so for maps whose shapes or dtypes differ, an
    empty batch, fake or meta tensors, export, and inference with gradients. A fused form has no second derivative: its
    backward raises RuntimeError with `create_graph=True`.

    Sources: Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1, https://arxiv.org/abs/1502.03167; Hu et al.,
    "Squeeze-and-Excitation Networks", 2017, section 3, equations 2 to 4, https://arxiv.org/abs/1709.01507.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        norm: BatchNorm over C channels, with or without affine parameters and running statistics. A SyncBatchNorm takes
            its statistics over all processes of its group, each of which must call this function.
        se: SE block, or one of another library after `fuse`, with ReLU and the logistic sigmoid. A fused form uses its
            weights and does not call its forward.
        squeezed: Means of x over H and W, N x C in float32, if they are known. Only inference uses them.

    Returns:
        N x C x H x W.

    Raises:
        ValueError: If there is a single value per channel in training, as BatchNorm raises it.
        RuntimeError: If norm or SE block are for another number of channels.
    """
    if not is_batch_norm(norm):
        return textbook_tail(x, shortcut, norm, se)
    excitation, group = excitation_of(se), group_of(norm)
    by_batch = norm.training or norm.running_mean is None
    backend = backend_for(x, shortcut)
    if backend is NATIVE and by_batch and group is None:
        # Its kernels check shapes and dtypes themselves, faster than the code below.
        _check_count(x)
        out = native.train_tail(x, shortcut, norm, excitation)
        if out is not None:
            return out
    if _reason_to_leave(x, shortcut, norm, excitation) is not None:
        return textbook_tail(x, shortcut, norm, se)
    if group is not None:
        return synchronized_tail(x, shortcut, norm, excitation, group)
    compute = _training if by_batch else _inference
    out = compute(backend, x, shortcut, norm, excitation, squeezed) if x.numel() else None
    return textbook_tail(x, shortcut, norm, se) if out is None else out


def textbook_tail(x: Tensor, shortcut: Tensor, norm: nn.Module, se: nn.Module) -> Tensor:
    """Return relu(se(norm(x)) + shortcut), operator by operator.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        norm: Any normalization over C channels.
        se: Any module from N x C x H x W to the same shape.

    Returns:
        N x C x H x W.

    Raises:
        ValueError: If `norm` is BatchNorm in training and there is a single value per channel.
        RuntimeError: If the shapes do not fit.
    """
    return torch.relu(se(norm(x)) + shortcut)


def excitation_of(se: SE) -> ExcitationWeights:
    """Return the weights and biases of both products of an SE block."""
    if isinstance(se, FusedForeignSE):
        return se.weights()
    reduce, expand = se.reduce, se.expand
    return reduce.weight, expand.weight, reduce.bias, expand.bias


def _reason_to_leave(x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights) -> str | None:
    """Return why no backend's fused form can be correct; None if one can."""
    compiling = torch.compiler.is_compiling()
    if compiling and norm.training and norm.momentum is None:
        return "reading the number of batches would break the graph"
    if group_of(norm) is not None and (compiling or maps.not_readable(x, shortcut)):
        return "processes can exchange statistics only outside of a compilation"
    small = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return maps.not_alike(x, shortcut) or maps.not_for_excitation(x, *excitation) or maps.not_for_channels(x, *small)


def _training(
    backend: Backend, x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, _: Tensor | None
) -> Tensor | None:
    _check_count(x)
    out = None if backend.train_tail is None else backend.train_tail(x, shortcut, norm, excitation)
    if out is None and backend.halves is not None:
        return train_by_halves(backend.halves, x, shortcut, norm, excitation)
    return out


def _inference(
    backend: Backend,
    x: Tensor,
    shortcut: Tensor,
    norm: BatchNorm,
    excitation: ExcitationWeights,
    squeezed: Tensor | None,
) -> Tensor | None:
    if backend.infer_tail is None or maps.wants_gradient(x, shortcut, norm.weight, norm.bias, *excitation):
        return None
    return backend.infer_tail(x, shortcut, norm, excitation, squeezed)


def _check_count(x: Tensor) -> None:
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
