"""A network with inputs, loss and optimizer of its own, as a user's factory may return it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnperf.errors import OptionError

IMAGE_DIMENSIONS = 4  # (N, C, H, W)

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Function from the parameters of a network to their optimizer."""


@dataclass(frozen=True)
class Subject:
    """A network with what it is called and trained with.

    Attributes:
        model: The network.
        inputs: What it is called with: a tensor, a tuple of positional arguments, or a dictionary of keyword arguments.
            They may hold tensors of any shape and kind, and anything else.
        loss: Function of the output, and of the target if there is one, that returns the loss, a tensor of one number.
            None for the cross-entropy of class scores (N, classes), or else the mean square of the first floating-point
            tensor of the output.
        optimizer: Function of the parameters that returns the optimizer of a training step; None for SGD with momentum.
        target: Second argument of the loss; None if it has none.
    """

    model: nn.Module
    inputs: torch.Tensor | tuple[Any, ...] | Mapping[str, Any]
    loss: Callable[..., torch.Tensor] | None = None
    optimizer: MakeOptimizer | None = None
    target: Any = None

    def __post_init__(self) -> None:
        """Check the kinds of the attributes.

        Raises:
            OptionError: If one of them is of another kind.
        """
        if not isinstance(self.model, nn.Module):
            raise OptionError(f"the model of a Subject is an nn.Module, not a {type(self.model).__name__}")
        if not isinstance(self.inputs, torch.Tensor | tuple | Mapping):
            raise OptionError(
                "the inputs of a Subject are a tensor, a tuple of positional arguments or a dictionary of keyword "
                f"arguments, not a {type(self.inputs).__name__}"
            )
        for name in ("loss", "optimizer"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise OptionError(f"the {name} of a Subject is a function or None, not a {type(value).__name__}")
        if self.target is not None and self.loss is None:
            raise OptionError("a Subject with a target needs a loss, a function of the output and the target")

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and the keyword arguments of a call."""
        if isinstance(self.inputs, torch.Tensor):
            return (self.inputs,), {}
        return ((), dict(self.inputs)) if isinstance(self.inputs, Mapping) else (self.inputs, {})
