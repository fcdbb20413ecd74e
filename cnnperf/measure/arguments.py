"""How a network is called with tensors that stand anywhere in its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten


@dataclass(frozen=True)
class Arguments:
    """Positional and keyword arguments without their tensors.

    Attributes:
        spec: Structure of both.
        leaves: All values in them, with None for each tensor.
        places: Places of the tensors among the leaves.
    """

    spec: TreeSpec
    leaves: tuple[Any, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Arguments, tuple[torch.Tensor, ...]]:
        """Take the tensors out of arguments; return what is left, and the tensors."""
        leaves, spec = tree_flatten((args, kwargs))
        places = tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
        tensors = tuple(leaves[place] for place in places)
        others = tuple(None if place in places else leaf for place, leaf in enumerate(leaves))
        return cls(spec, others, places), tensors

    def call(self, network: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> Any:
        """Call a network with tensors at their places, and return its output."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.spec)
        return network(*args, **kwargs)
