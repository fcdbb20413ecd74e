"""The fused tail of a residual block: relu(SE(BatchNorm(x)) + shortcut) as one differentiable function."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from cnnperf.fusion import algebra, forms, gpu, maps, operators
from cnnperf.fusion.algebra import Forward, Parameters
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.foreign import has_hooks
from cnnperf.fusion.forms import Form
from cnnperf.fusion.norm import (
    SE,
    BatchNorm,
    affine_of,
    excitation_of,
    frozen,
    is_batch_norm,
    parameters_of,
    update_running_statistics,
)
from cnnperf.fusion.synchronized import fits_ranks, ranks_of, synchronized_tail
from cnnperf.models.squeeze_excitation import SEBlock


class Tail(torch.autograd.Function):
    """The tail in training: x, shortcut and parameters to output, batch mean and batch variance.

    Its backward cannot be differentiated again, and says so if that is tried.
    """

    @staticmethod
    def forward(ctx: Any, form: Form, eps: float, x: Tensor, shortcut: Tensor, *parameters: Any) -> Any:
        """Compute the output, and keep x, the byte mask and what is small for the backward."""
        with torch.autocast(x.device.type, enabled=False):  # the backward runs without it, and needs the same dtypes
            kept = form.forward(x, shortcut, Parameters(*parameters), eps)
        ctx.form, ctx.eps = form, eps
        ctx.save_for_backward(x, *kept[1:], *parameters)
        ctx.mark_non_differentiable(kept.mu, kept.variance)
        ctx.set_materialize_grads(False)
        return kept.out, kept.mu, kept.variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        """Compute all gradients from that of the output."""
        maps.refuse_second_derivative()
        if grad is None:
            return (None,) * 10
        x, *small = ctx.saved_tensors
        kept, parameters = Forward(x, *small[:7]), Parameters(*small[7:])
        gradients = ctx.form.backward(grad, x, kept, parameters, ctx.eps)
        return None, None, *operators.of_present(gradients, small[-2:])


class NativeTail(torch.autograd.Function):
    """`Tail` in C++, which updates the running statistics too."""

    @staticmethod
    def forward(
        ctx: Any, eps: float, running: tuple[Any, ...], x: Tensor, shortcut: Tensor, *parameters: Tensor | None
    ) -> Any:
        """Compute the output; `running` holds mean, variance, count of batches and momentum, or nothing."""
        out, *kept = operators.tail_forward(x, shortcut, *parameters, eps, *running)
        ctx.eps = eps
        ctx.save_for_backward(x, *kept, *parameters)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Compute all gradients from that of the output."""
        maps.refuse_second_derivative()
        kept = ctx.saved_tensors
        return None, None, *operators.of_present(operators.tail_backward(grad, *kept, ctx.eps), kept[-2:])


def fused_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE, squeezed: Tensor | None = None) -> Tensor:
    """Return relu(se(norm(x)) + shortcut), and update the running statistics as `norm` would.

    Args:
        x: N x C x H x W.
        shortcut: N x C x H x W.
        norm: BatchNorm over C channels; with or without affine parameters and running statistics. The statistics of
            a SyncBatchNorm are those over all processes of its group, each of which must call this.
        se: The SE block, or one of another library after `fuse`, with ReLU and the logistic sigmoid; its weights are
            used, its own forward is not called where the fused form applies.
        squeezed: The means of x, N x C in float32, where they are known already; only inference has a use for them.

    Returns:
        N x C x H x W. Where no fused form applies (shapes or dtypes that differ, an empty batch, fake or meta
        tensors, export, or inference whose gradients are wanted) the textbook formula is computed.

    Raises:
        ValueError: In training with a single value a channel, as BatchNorm raises it.
        RuntimeError: If norm or SE block are for another number of channels.
    """
    ranks = ranks_of(norm)
    if not is_batch_norm(norm) or (ranks is not None and not fits_ranks(x, shortcut, norm, se)):
        return textbook_tail(x, shortcut, norm, se)
    if ranks is not None:
        return synchronized_tail(x, shortcut, norm, se, ranks)
    by_batch = norm.training or norm.running_mean is None
    if by_batch and not torch.compiler.is_compiling():
        out = _native_training(x, shortcut, norm, se)
        if out is not None:
            return out
    small = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    fits = maps.fits_excitation(x, *excitation_of(se)) and maps.fits_norm(x, *small)
    if not (fits and _is_plain(x, shortcut) and _can_run(x, norm)):
        return textbook_tail(x, shortcut, norm, se)
    if by_batch:
        return _training(x, shortcut, norm, se)
    return _inference(x, shortcut, norm, se, squeezed)


def infers_natively(norm: BatchNorm, x: Tensor) -> bool:
    """Tell whether BatchNorm of a map is linear here and the C++ kernels can compute it, without any gradient."""
    if not is_batch_norm(norm) or has_hooks(norm) or norm.training or norm.running_mean is None:
        return False
    affine = (norm.weight, norm.bias)
    fits = maps.fits_norm(x, *affine, norm.running_mean, norm.running_var)
    return fits and not maps.wants_gradient(x, *affine) and _can_run(x, norm) and forms.fits_native(x)


def textbook_tail(x: Tensor, shortcut: Tensor, norm: nn.Module, se: nn.Module) -> Tensor:
    """Return relu(se(norm(x)) + shortcut), operator by operator."""
    return torch.relu(se(norm(x)) + shortcut)


def _native_training(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE) -> Tensor | None:
    """Do all of it in the C++ kernels, or nothing where they do not take it.

    Each attribute is read once and little is called: between the layers of a network the interpreter's own data has
    left the cache, and then the checks alone took a tenth of a training step with a map of 32x512x4x4.
    """
    if not (maps.is_plain(x, shortcut) and forms.fits_native(x, shortcut)):
        return None
    weight, bias, mean, variance, batches = (
        norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked,
    )  # fmt: skip
    if isinstance(se, SEBlock):
        reduce, expand = se.reduce, se.expand
        excitation: ExcitationWeights = (reduce.weight, expand.weight, reduce.bias, expand.bias)
    else:
        excitation = se.weights()
    for one in (weight, bias, mean, variance, batches, *excitation):
        if not (one is None or one.is_cpu):
            return None
    if batches is not None and batches.dtype is not torch.int64:
        return None
    _check_count(x)
    affine = (weight, bias) if norm.affine else affine_of(norm, x)
    parameters = _in_float32(*affine, *excitation)
    if mean is None or variance is None or not (norm.training and norm.track_running_stats):
        return cast(Tensor, NativeTail.apply(norm.eps, (), x, shortcut, *parameters))  # type: ignore[no-untyped-call]
    wide = cast(tuple[Tensor, Tensor], _in_float32(mean, variance))
    running = (*wide, batches, norm.momentum)
    out = NativeTail.apply(norm.eps, running, x, shortcut, *parameters)  # type: ignore[no-untyped-call]
    if wide[0] is not mean:
        mean.copy_(wide[0])
        variance.copy_(wide[1])
    return cast(Tensor, out)


def _in_float32(*small: Tensor | None) -> tuple[Tensor | None, ...]:
    for one in small:
        if one is not None and one.dtype is not torch.float32:
            return tuple(None if each is None else each.float() for each in small)
    return small


def _training(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE) -> Tensor:
    _check_count(x)
    if x.is_cuda and not torch.compiler.is_compiling():
        out = _training_in_triton(x, shortcut, norm, se)
        if out is not None:
            return out
    parameters = parameters_of(norm, se, x)
    if torch.compiler.is_compiling():
        out, _, _, mu, variance, *_ = forms.traced_forward(x, shortcut, parameters, norm.eps)
    else:
        form = forms.form_for(x, shortcut)
        out, mu, variance = Tail.apply(form, norm.eps, x, shortcut, *parameters)  # type: ignore[no-untyped-call]
    if norm.training and norm.track_running_stats:
        update_running_statistics(norm, mu, variance, x.numel() // x.shape[1])
    return out


def _training_in_triton(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE) -> Tensor | None:
    """Do all of it in the Triton kernels, or nothing where they do not take it."""
    if not gpu.fits(x, shortcut):
        return None
    running = None
    if norm.training and norm.track_running_stats:
        running = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
        if not gpu.moves(running, x):
            return None
    weight, bias = affine_of(norm, x)
    return gpu.train_tail(x, shortcut, Parameters(weight, bias, *excitation_of(se)), norm.eps, running)


def _check_count(x: Tensor) -> None:
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")


def _inference(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE, squeezed: Tensor | None) -> Tensor:
    excitation = excitation_of(se)
    wanted = maps.wants_gradient(x, shortcut, norm.weight, norm.bias, *excitation)
    if wanted or not forms.fits_kernels(x, shortcut):
        return textbook_tail(x, shortcut, norm, se)
    ready = [None if one is None else one.float().contiguous() for one in excitation]
    if torch.compiler.is_compiling():
        scale, shift = operators.tail_scaling(x, squeezed, *frozen(norm, x), *ready).unbind()
        return algebra.apply_scaling(x.float(), shortcut, scale, shift).to(x.dtype)
    if x.is_cuda:
        return gpu.tail_inference(x, shortcut, frozen(norm, x), *ready)
    return cast(Tensor, operators.tail_inference(x, shortcut, squeezed, *frozen(norm, x), *ready))


def _is_plain(x: Tensor, shortcut: Tensor) -> bool:
    alike = x.shape == shortcut.shape and x.dtype == shortcut.dtype and x.device == shortcut.device
    return alike and x.is_floating_point() and x.numel() > 0


def _can_run(x: Tensor, norm: BatchNorm) -> bool:
    """Tell whether a fused form can take part: in a compilation only the operators can, in an export none."""
    if torch.compiler.is_compiling():
        counted = norm.training and norm.momentum is None  # reading the number of batches would break the graph
        return not torch.compiler.is_exporting() and not counted and forms.fits_kernels(x)
    return maps.is_plain(x)


__all__ = ["Tail", "fused_tail", "textbook_tail"]
