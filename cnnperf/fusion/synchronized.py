"""The fused tail under SyncBatchNorm: the batch is spread over processes, and its statistics are those of all.

What crosses between processes is of size C: mean, variance and count of each part in the forward, and the gradients of
weight and bias, which are the sums that the gradient of x needs, in the backward. What reads a map is done as in one
process.

Source: the law of total variance over parts of a batch, T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating Formulae
and a Pairwise Algorithm for Computing Sample Variances", 1982, equation 2.1; what `torch.nn.SyncBatchNorm` exchanges.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from cnnperf.fusion import algebra, forms, gpu, maps, operators
from cnnperf.fusion.algebra import Add, Forward, Gradients, Merge, Parameters
from cnnperf.fusion.forms import Form
from cnnperf.fusion.norm import SE, BatchNorm, excitation_of, parameters_of, update_running_statistics

Group = Any  # distributed.ProcessGroup, which a build of PyTorch may lack


class Agreement:
    """Bring together what the processes of a group know of one batch."""

    def __init__(self, group: Group, values: int) -> None:
        """Take part with so many values in each channel, 0 where this process has no samples."""
        self._group, self._values = group, values
        self.total = torch.tensor(float(values))

    def merge(self, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance over all parts, C each, from those of this one."""
        own = torch.cat([mu, variance, mu.new_full((1,), self._values)])
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size(self._group))]
        distributed.all_gather(parts, own, group=self._group)
        channels = mu.numel()
        means, variances, counts = torch.stack(parts).split([channels, channels, 1], dim=1)
        self.total = counts.sum()
        share = counts / self.total
        everywhere = (share * means).sum(0)
        return everywhere, (share * (variances + (means - everywhere).square())).sum(0)

    def add(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both sums over all parts, C each, and how many values a channel has in all."""
        both = torch.stack([first, second])
        distributed.all_reduce(both, group=self._group)
        return both[0], both[1], self.total


class SynchronizedTail(torch.autograd.Function):
    """`Tail` over the processes of a group; gradients of parameters are those of this process's samples."""

    @staticmethod
    def forward(
        ctx: Any, form: Form, eps: float, group: Group, x: Tensor, shortcut: Tensor, *parameters: Tensor
    ) -> Any:
        """Compute the output, and mean, variance and count of the whole batch."""
        agreement = Agreement(group, x.numel() // x.shape[1])
        with torch.autocast(x.device.type, enabled=False):
            forward = form.forward if x.numel() else _nothing_forward
            kept = forward(x, shortcut, Parameters(*parameters), eps, agreement.merge)
        ctx.form, ctx.eps, ctx.agreement = form, eps, agreement
        ctx.save_for_backward(x, *kept[1:], *parameters)
        ctx.mark_non_differentiable(kept.mu, kept.variance, agreement.total)
        return kept.out, kept.mu, kept.variance, agreement.total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Any:
        """Compute all gradients from that of the output."""
        maps.refuse_second_derivative()
        x, *small = ctx.saved_tensors
        kept, parameters = Forward(x, *small[:7]), Parameters(*small[7:])
        backward = ctx.form.backward if x.numel() else _nothing_backward
        gradients = backward(grad, x, kept, parameters, ctx.eps, ctx.agreement.add)
        return None, None, None, *operators.of_present(gradients, parameters[-2:])


def ranks_of(norm: BatchNorm) -> Group | None:
    """Return the group over which a BatchNorm takes its statistics now; None where this process's samples are all."""
    if type(norm) is not nn.SyncBatchNorm or not norm.training:
        return None
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def fits_ranks(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE) -> bool:
    """Tell whether the fused form takes these maps, which may be empty here; a compiler gets the textbook's."""
    if torch.compiler.is_compiling() or not (x.is_floating_point() and maps.is_plain(x, shortcut)):
        return False
    alike = x.shape == shortcut.shape and x.dtype == shortcut.dtype and x.device == shortcut.device
    small = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return alike and maps.fits_excitation(x, *excitation_of(se)) and maps.fits_norm(x, *small)


def synchronized_tail(x: Tensor, shortcut: Tensor, norm: BatchNorm, se: SE, group: Group) -> Tensor:
    """Return relu(se(norm(x)) + shortcut) with the batch's statistics over a group, and update the running ones.

    Args:
        x: This process's samples, N x C x H x W; N may differ from process to process, and be 0.
        shortcut: N x C x H x W.
        norm: A SyncBatchNorm in training.
        se: The SE block.
        group: Of processes, each of which must call this.

    Returns:
        N x C x H x W.
    """
    parameters, form = parameters_of(norm, se, x), form_for(x, shortcut)
    out, mu, variance, total = SynchronizedTail.apply(form, norm.eps, group, x, shortcut, *parameters)  # type: ignore[no-untyped-call]
    if norm.track_running_stats:
        update_running_statistics(norm, mu, variance, total)
    return cast(Tensor, out)


def form_for(x: Tensor, shortcut: Tensor) -> Form:
    """Return the form whose halves take these maps: C++ on the CPU, Triton on a GPU, else the algebra."""
    if forms.fits_native(x, shortcut):
        return NATIVE
    return forms.TRITON if x.is_cuda and gpu.fits(x, shortcut) else forms.ALGEBRA


def native_forward(x: Tensor, shortcut: Tensor, parameters: Parameters, eps: float, merge: Merge) -> Forward:
    """Do what `algebra.tail_forward` does in C++."""
    mean, within = operators.tail_moments(x)
    mu, variance = merge(*algebra.batch_moments(mean, within))
    out, mask, *small = operators.tail_normalized(x, shortcut, mean, mu, variance, *parameters, eps)
    return Forward(out, mask, mean, mu, variance, *small)


def native_backward(grad: Tensor, x: Tensor, kept: Forward, parameters: Parameters, eps: float, add: Add) -> Gradients:
    """Do what `algebra.tail_backward` does in C++."""
    passed, *small, dsqueezed = operators.tail_sums(grad, x, *kept[1:], *parameters, eps)
    *sums, values = add(*small[:2])
    of_batch = (kept.mu, kept.variance, kept.gate, dsqueezed, parameters.weight)
    dx = operators.tail_blend(passed, x, *of_batch, *sums, eps, float(values))
    return Gradients(dx, passed, *small)


NATIVE = Form(native_forward, native_backward)


def _nothing_forward(x: Tensor, _: Tensor, parameters: Parameters, __: float, merge: Merge) -> Forward:
    """Take part without samples: the others wait for every process."""
    channels, width = x.shape[1], parameters.reduce.shape[0]
    none, hidden = parameters.weight.new_zeros(0, channels), parameters.weight.new_zeros(0, width)
    mu, variance = merge(*(parameters.weight.new_zeros(channels) for _ in range(2)))
    return Forward(maps.like(x), maps.like(x, torch.uint8), none, mu, variance, none, hidden, none)


def _nothing_backward(grad: Tensor, _: Tensor, __: Forward, parameters: Parameters, ___: float, add: Add) -> Gradients:
    add(torch.zeros_like(parameters.weight), torch.zeros_like(parameters.bias))
    zeros = (None if one is None else torch.zeros_like(one) for one in parameters)
    return Gradients(grad, grad, *zeros)  # type: ignore[arg-type]  # only biases are None
