"""Work: what a phase must compute and move, counted on the meta device, where nothing is computed or allocated.

Counted on the eager, textbook network whatever the engine: it is the work that the result needs, not the work
that one implementation chose to do.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from cnnperf.measure.precisions import DTYPES, PRECISIONS
from cnnperf.models.catalog import create, hollow, resolve
from cnnperf.records.case import Case


@dataclass(frozen=True)
class Work:
    """The exact work of one call of a phase.

    Attributes:
        parameters: Number of parameters.
        flop: Floating-point operations of convolutions and matrix products; a multiply-add counts two.
        traffic: Bytes that convolutions and matrix products read and write, each operand once: what is left even
            when everything else is fused away.
        live: Most bytes of tensors alive between operators, everything resident included.
    """

    parameters: int
    flop: int
    traffic: int
    live: int


class _Traffic(TorchDispatchMode):
    """Add up operand and result bytes of the operators that have a flop formula."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:  # noqa: SLF001 - the registry's key
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


class _LiveTensors(TorchDispatchMode):
    """Follow the storages that operators return until they die."""

    def __init__(self, resident: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, Any] = {}
        self.live: int = 0
        self.peak: int = 0
        for tensor in resident:
            self._follow(tensor.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def restart(self) -> None:
        """Forget the peak so far, not what is alive."""
        self.peak = self.live

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # noqa: SLF001 - what StorageWeakRef identifies storages by
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size


def count_work(case: Case) -> Work:
    """Count the work of one call of the case's phase.

    Raises:
        OptionError: If the architecture does not exist.
    """
    textbook = resolve(case.architecture).reference or case.architecture
    operands = PRECISIONS[case.precision].operands
    # None of the others decides what is computed, so the cases that differ in them share one count.
    alike = case.replace(engine="eager", device="cpu", layout="contiguous", threads=0)
    work = _count(alike.replace(architecture=textbook, precision=operands))
    if PRECISIONS[case.precision].autocast is None:
        return work
    # Parameters, their gradients and what autocast leaves alone are held in fp32: at most that.
    return replace(work, live=_count(alike.replace(architecture=textbook, precision="fp32")).live)


@lru_cache(maxsize=256)
def _count(case: Case) -> Work:
    # A width may be asked for that no memory holds.
    model = hollow(resolve(case.architecture), case.width) if case.width else create(case.architecture)
    model = model.to(device="meta", dtype=DTYPES[case.precision]).train(case.trains)
    images = torch.empty(case.batch, 3, case.image_size, case.image_size, dtype=DTYPES[case.precision], device="meta")
    target = torch.empty(case.batch, dtype=torch.int64, device="meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9) if case.phase == "train" else None
    flops, traffic = FlopCounterMode(display=False), _Traffic()
    live = _LiveTensors([*model.parameters(), *model.buffers(), *_momentum(optimizer), images, target])
    before = (0, 0)
    with live, flops, traffic, torch.set_grad_enabled(case.trains):  # inference mode hides operators from the modes
        output = model(images)
        if case.trains:
            loss = nn.functional.cross_entropy(output.float(), target)
            del output
            if case.phase == "backward":
                before = (int(flops.get_total_flops()), traffic.bytes)
                live.restart()
            cast(Any, loss).backward()
        if optimizer is not None:
            optimizer.step()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Work(parameters, int(flops.get_total_flops()) - before[0], traffic.bytes - before[1], live.peak)


def _momentum(optimizer: torch.optim.Optimizer | None) -> list[torch.Tensor]:
    """Make an optimizer allocate its state, as every step but the first finds it, and return the state."""
    if optimizer is None:
        return []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return [state["momentum_buffer"] for state in optimizer.state.values()]
