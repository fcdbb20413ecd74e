"""The tail in training, from a forward and a backward with the signatures of `algebra`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cnnperf.fusion import maps, operators
from cnnperf.fusion.algebra import Forward, Gradients, Parameters
from cnnperf.fusion.excitation import ExcitationWeights
from cnnperf.fusion.norm import BatchNorm, parameters_of, update_running_statistics, updates_statistics


@dataclass(frozen=True)
class Halves:
    """Forward and backward of the tail in training, with the signatures of those in `algebra`."""

    forward: Callable[..., Forward]
    backward: Callable[..., Gradients]


class Exchange(Protocol):
    """Exchange of statistics of a batch that is spread over processes.

    Attributes:
        total: Number of values of a channel in the whole batch, known after `merge`.
    """

    total: Tensor

    def merge(self, mu: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of the whole batch, C each, from those of this process's part."""

    def add(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both sums over the whole batch, C each, and its number of values of a channel."""


class Tail(torch.autograd.Function):
    """The tail in training: x, shortcut and parameters to output, batch mean and batch variance.

    The backward raises RuntimeError if it is to be differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any, halves: Halves, eps: float, exchange: Exchange | None, x: Tensor, shortcut: Tensor, *parameters: Any
    ) -> Any:
        """Compute the output, and save x, the byte mask and the small tensors for the backward."""
        merge = () if exchange is None else (exchange.merge,)
        with torch.autocast(x.device.type, enabled=False):  # the backward runs without it, and needs the same dtypes
            saved = halves.forward(x, shortcut, Parameters(*parameters), eps, *merge)
        ctx.halves, ctx.eps, ctx.exchange = halves, eps, exchange
        ctx.save_for_backward(x, *saved[1:], *parameters)
        ctx.mark_non_differentiable(saved.mu, saved.variance)
        ctx.set_materialize_grads(False)
        return saved.out, saved.mu, saved.variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> Any:
        """Compute all gradients from the gradient of the output."""
        maps.refuse_second_derivative()
        if grad is None and ctx.exchange is None:
            return (None,) * 11  # one for each argument of the forward
        x, *small = ctx.saved_tensors
        grad = torch.zeros_like(x) if grad is None else grad  # the other processes wait for this one's sums
        saved, parameters = Forward(x, *small[:7]), Parameters(*small[7:])
        add = () if ctx.exchange is None else (ctx.exchange.add,)
        gradients = ctx.halves.backward(grad, x, saved, parameters, ctx.eps, *add)
        return None, None, None, *operators.of_present(gradients, small[-2:])


def train_by_halves(
    halves: Halves,
    x: Tensor,
    shortcut: Tensor,
    norm: BatchNorm,
    excitation: ExcitationWeights,
    exchange: Exchange | None = None,
) -> Tensor:
    """Return the tail in training, differentiable once, and update the running statistics.

    Args:
        halves: Forward and backward.
        x: N x C x H x W.
        shortcut: N x C x H x W.
        norm: BatchNorm over C channels, whose statistics are those of the batch.
        excitation: Weights and biases of both products.
        exchange: Exchange of statistics, if the batch is spread over processes.

    Returns:
        N x C x H x W.
    """
    parameters = parameters_of(norm, excitation, x)
    out, mu, variance = Tail.apply(halves, norm.eps, exchange, x, shortcut, *parameters)  # type: ignore[no-untyped-call]
    if updates_statistics(norm):
        count = x.numel() // x.shape[1] if exchange is None else exchange.total
        update_running_statistics(norm, mu, variance, count)
    result: Tensor = out
    return result
