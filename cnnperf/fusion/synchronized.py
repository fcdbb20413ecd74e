"""The fused tail with SyncBatchNorm, which takes its statistics over a batch that is spread over processes.

The processes exchange tensors of size C: in the forward mean, variance and count of each part, and in the backward the
gradients of weight and bias, which are the sums that the gradient of x needs. Each process reads only its own maps.

Source: the law of total variance over parts of a batch, T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating Formulae
and a Pairwise Algorithm for Computing Sample Variances", 1982, equation 2.1. `torch.nn.SyncBatchNorm` exchanges the
same.
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

Group = Any  # distributed.ProcessGroup, which some builds of PyTorch lack


class GroupExchange:
    """Exchange of a batch's statistics among the processes of a group; see `halves.Exchange`."""

    def __init__(self, group: Group, values: int) -> None:
        """Create the exchange, given the number of values of each channel in this process, which may be 0."""
        self._group, self._values = group, values
        self.total = torch.tensor(float(values))

    def merge(self, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of the whole batch, C each, from those of this process's part."""
        own = torch.cat([mu, variance, mu.new_full((1,), self._values)])
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size(self._group))]
        distributed.all_gather(parts, own, group=self._group)
        channels = mu.numel()
        means, variances, counts = torch.stack(parts).split([channels, channels, 1], dim=1)
        self.total = counts.sum()
        share = counts / self.total
        overall = (share * means).sum(0)
        return overall, (share * (variances + (means - overall).square())).sum(0)

    def add(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both sums over the whole batch, C each, and its number of values of a channel."""
        both = torch.stack([first, second])
        distributed.all_reduce(both, group=self._group)
        return both[0], both[1], self.total


def group_of(norm: BatchNorm) -> Group | None:
    """Return the process group over which a BatchNorm takes its statistics; None if it uses this process alone."""
    if type(norm) is not nn.SyncBatchNorm or not norm.training:
        return None
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


def synchronized_tail(
    x: Tensor, shortcut: Tensor, norm: BatchNorm, excitation: ExcitationWeights, group: Group
) -> Tensor:
    """Return relu(se(norm(x)) + shortcut) with statistics over a process group, and update the running statistics.

    Gradients of parameters are those of this process's samples.

    Args:
        x: This process's samples, N x C x H x W; N may differ between processes and be 0.
        shortcut: N x C x H x W.
        norm: SyncBatchNorm in training.
        excitation: Weights and biases of both products.
        group: Process group; each of its processes must call this function.

    Returns:
        N x C x H x W.
    """
    backend = backend_for(x, shortcut, among=MERGING)
    halves = backend.halves if x.numel() else WITHOUT_SAMPLES
    exchange = GroupExchange(group, x.numel() // x.shape[1])
    return train_by_halves(cast(Halves, halves), x, shortcut, norm, excitation, exchange)


def _empty_forward(x: Tensor, _: Tensor, parameters: Parameters, __: float, merge: Merge) -> Forward:
    """Take part in the exchange without samples, because the others wait for every process."""
    channels, width = x.shape[1], parameters.reduce.shape[0]
    empty, hidden = parameters.weight.new_zeros(0, channels), parameters.weight.new_zeros(0, width)
    mu, variance = merge(*(parameters.weight.new_zeros(channels) for _ in range(2)))
    return Forward(maps.like(x), maps.like(x, torch.uint8), empty, mu, variance, empty, hidden, empty)


def _empty_backward(grad: Tensor, _: Tensor, __: Forward, parameters: Parameters, ___: float, add: Add) -> Gradients:
    add(torch.zeros_like(parameters.weight), torch.zeros_like(parameters.bias))
    zeros = (None if small is None else torch.zeros_like(small) for small in parameters)
    return Gradients(grad, grad, *zeros)  # type: ignore[arg-type]  # only biases are None


WITHOUT_SAMPLES = Halves(_empty_forward, _empty_backward)
