"""Parameters and buffers of a network, and their values before the first round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnperf.models.subject import IMAGE_DIMENSIONS


class NetworkState:
    """Initial values of the parameters and buffers of a network.

    A network may replace its tensors in a call, give them other shapes or add some. What it has added is left alone.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy the present values.

        Args:
            model: Network after its first call, in which buffers and lazy parameters may get their shapes.
        """
        self._model = model
        tensors = dict(_named_tensors(model))
        self._initial = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._sharing = _sharing_memory(tensors)

    def restore(self) -> None:
        """Write the initial values in place."""
        for name, tensor in self._known():
            self._write(name, tensor)

    def relocate(self, moved: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Put initial values at other addresses; tensors that share memory stay where they are and are restored.

        The tensor objects stay the same, so that nothing is recompiled.

        Args:
            moved: Function that returns a copy of a tensor at a fresh address.
        """
        for name, tensor in self._known():
            if name in self._sharing:
                self._write(name, tensor)
            else:
                self._replace(name, tensor, moved(self._initial[name]))

    def _known(self) -> Iterator[tuple[str, torch.Tensor]]:
        named = list(_named_tensors(self._model))
        return ((name, tensor) for name, tensor in named if name in self._initial)

    def _write(self, name: str, tensor: torch.Tensor) -> None:
        initial = self._initial[name]
        if tensor.shape == initial.shape and not tensor.is_inference() and not _overlaps(tensor):
            with torch.no_grad():
                tensor.copy_(initial)
        else:
            self._replace(name, tensor, initial.clone())

    def _replace(self, name: str, tensor: torch.Tensor, value: torch.Tensor) -> None:
        if not tensor.is_inference():
            tensor.data = value
            return
        owner, _, leaf = name.rpartition(".")  # made by a call in inference mode, and not to be changed outside of it
        setattr(self._model.get_submodule(owner), leaf, value)


def converted(model: nn.Module, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    """Convert tensors of real numbers of a network; complex and integer ones keep their kind.

    fp32 is what networks are built in: one that keeps some tensors in double precision is left as it is.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if is_lazy(tensor):
            continue
        if tensor.is_floating_point() and dtype != torch.float32:
            tensor.data = tensor.data.to(dtype)
        if tensor.dim() == IMAGE_DIMENSIONS:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return model


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not is_lazy(tensor):  # a layer that is not called has no shape yet
            yield name, tensor


def _sharing_memory(tensors: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of different tensors that lie in one storage, as views of a flattened weight do."""
    names = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel():
            names[tensor.untyped_storage().data_ptr()].append(name)
    return {name for sharing in names.values() if len(sharing) > 1 for name in sharing}


def _overlaps(tensor: torch.Tensor) -> bool:
    """Return whether elements of a tensor share memory, as those of an expanded one do; these cannot be written."""
    if tensor.layout != torch.strided:
        return False
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
