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

from cnnperf.fusion import maps
from cnnperf.fusion.algebra import Add, Forward, Gradients, Merge, Parameters
from cnnperf.fusion.backends import MERGING, backend_for
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.halves import Halves, train_by_halves
from cnnperf.fusion.norm import BatchNorm

Group = Any  # distributed.ProcessGroup, which a build of PyTorch may lack


class GroupExchange:
    """Statistics of a batch over the processes of a group."""

    def __init__(self, group: Group, values: int) -> None:
        """Join with the number of values that each channel has in this process, which may be 0."""
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


def ranks_of(norm: BatchNorm) -> Group | None:
    """Return the group over which a BatchNorm takes its statistics now; None where this process's samples are all."""
    if type(norm) is not nn.SyncBatchNorm or not norm.training:
        return None
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def synchronized_tail(
    x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, group: Group
) -> Tensor:
    """Return relu(se(norm(x)) + shortcut) with the batch's statistics over a group, and update the running ones.

    Args:
        x: This process's samples, N x C x H x W; N may differ from process to process, and be 0.
        shortcut: N x C x H x W.
        norm: A SyncBatchNorm in training.
        excitation: Weights and biases of both products.
        group: Process group; each of its processes must call this.

    Returns:
        N x C x H x W. Gradients of parameters are those of this process's samples.
    """
    backend = backend_for(x, shortcut, among=MERGING)
    halves = backend.halves if x.numel() else WITHOUT_SAMPLES
    exchange = GroupExchange(group, x.numel() // x.shape[1])
    return train_by_halves(cast(Halves, halves), x, shortcut, norm, excitation, exchange)


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


WITHOUT_SAMPLES = Halves(_nothing_forward, _nothing_backward)
