"""Work of a phase: its operations and traffic, counted on the meta device without computing or allocating.

All engines share the count of the eager textbook network: the work that the result requires, not the work of one
implementation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from cnnperf.errors import CnnperfError
from cnnperf.measure.failures import in_one_line
from cnnperf.measure.first_call import first_call
from cnnperf.measure.network_state import converted
from cnnperf.measure.precisions import DTYPES, PRECISIONS
from cnnperf.measure.task import hollow_task, task_for
from cnnperf.models.catalog import CATALOG, create, hollow, resolve
from cnnperf.records.case import Case


@dataclass(frozen=True)
class Work:
    """Exact work of one call of a phase.

    Attributes:
        parameters: Number of parameters.
        flop: Floating-point operations of convolutions and matrix products; a multiply-add counts as two.
        traffic: Bytes that convolutions and matrix products read and write, each operand once: the traffic that remains
            if everything else is fused.
        live: Peak bytes of tensors alive between operators, including parameters, buffers, optimizer state and inputs.
    """

    parameters: int
    flop: int
    traffic: int
    live: int


class _Traffic(TorchDispatchMode):
    """Counter of operand and result bytes of the operators that have a flop formula."""

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
    """Tracker of storages from the operator that returns them until they are freed."""

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
        """Reset the peak to the bytes that are alive now."""
        self.peak = self.live

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # noqa: SLF001 - the identity that StorageWeakRef uses
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.live -= size


class NotCountable(CnnperfError):  # noqa: N818 - describes a network, not a fault of the program
    """A network whose work cannot be counted, because it fails where work is counted."""


def count_work(case: Case, *, computing: bool = False) -> Work:
    """Count the work of one call of the case's phase.

    Args:
        case: The case.
        computing: Count a network that looks at values, which fails on the meta device, while it computes on the CPU.
            That takes the time and the memory of a call.

    Raises:
        OptionError: If the architecture does not exist.
        NotCountable: If the network fails.
    """
    textbook = resolve(case.architecture).reference or case.architecture
    operands = PRECISIONS[case.precision].operands
    # These axes do not change the work, so cases that differ only in them share one count.
    alike = case.replace(engine="eager", device="cpu", layout="contiguous", threads=0)
    work = _counted(alike.replace(architecture=textbook, precision=operands), computing=computing)
    if PRECISIONS[case.precision].autocast is None:
        return work
    # Parameters, gradients and tensors outside autocast are fp32, so that fp32 gives an upper bound.
    in_fp32 = _counted(alike.replace(architecture=textbook, precision="fp32"), computing=computing)
    return replace(work, live=in_fp32.live)


def _counted(case: Case, *, computing: bool) -> Work:
    try:
        return _count(case, "meta")
    except CnnperfError:
        raise
    except Exception as error:  # a network may need values, or kernels that the meta device lacks
        if case.architecture in CATALOG:
            raise
        if not computing:
            raise NotCountable(f"its work cannot be counted without computing ({in_one_line(error)})") from error
    try:
        return _count(case, "cpu")
    except Exception as error:
        raise NotCountable(f"its work cannot be counted ({in_one_line(error)})") from error


@lru_cache(maxsize=256)
def _count(case: Case, device: str) -> Work:
    # A network of another width may be too large to allocate.
    model = hollow(resolve(case.architecture), case.width) if case.width else create(case.architecture)
    model.train(case.trains)
    if any(map(is_lazy, model.parameters())):
        first_call(model, task_for(case, "synthetic", 0), trains=case.trains)
    model = converted(model.to(device=device), DTYPES[case.precision])
    whole = hollow_task(case) if device == "meta" else task_for(case, "synthetic", 0)
    task = whole.to(device, DTYPES[case.precision]).requiring_gradients(case.trains)
    has_optimizer = case.phase == "train" and not task.of_part
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9) if has_optimizer else None
    flops, traffic = FlopCounterMode(display=False), _Traffic()
    live = _LiveTensors([*model.parameters(), *model.buffers(), *_momentum(optimizer), *task.tensors()])
    untimed_flop = untimed_bytes = 0
    with live, flops, traffic, torch.set_grad_enabled(case.trains):  # inference mode hides operators from the modes
        output = task.call(model)
        if case.trains:
            objective = task.objective(output)
            del output
            if case.phase == "backward":
                untimed_flop, untimed_bytes = int(flops.get_total_flops()), traffic.bytes
                live.restart()
            task.differentiate(objective)
        if optimizer is not None:
            optimizer.step()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    flop = int(flops.get_total_flops()) - untimed_flop
    return Work(parameters, flop, traffic.bytes - untimed_bytes, live.peak)


def _momentum(optimizer: torch.optim.Optimizer | None) -> list[torch.Tensor]:
    """Make an optimizer allocate its state, as it is in all steps but the first, and return the state."""
    if optimizer is None:
        return []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return [state["momentum_buffer"] for state in optimizer.state.values()]
