"""Tensors in what a network returns: a tensor, a tuple, a named tuple, a dictionary or a data class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch.utils._pytree import tree_leaves


def floating_tensors(output: object) -> list[torch.Tensor]:
    """Return the tensors of real or complex numbers in the output of a network, in their order.

    Raises:
        TypeError: If there is none.
    """
    found = list(_floating(output))
    if not found:
        raise TypeError(f"the network returned {type(output).__name__} without a floating-point tensor")
    return found


def main_tensor(output: object) -> torch.Tensor:
    """Return the first tensor of real or complex numbers; raises as `floating_tensors` does."""
    return output if isinstance(output, torch.Tensor) else floating_tensors(output)[0]


def _floating(output: object) -> Iterator[torch.Tensor]:
    for leaf in tree_leaves(output):
        if isinstance(leaf, torch.Tensor):
            if leaf.is_floating_point() or leaf.is_complex():
                yield leaf
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            for field in dataclasses.fields(leaf):
                yield from _floating(getattr(leaf, field.name))
