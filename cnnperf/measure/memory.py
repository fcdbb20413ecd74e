"""Peak memory of one round and its split by use.

On both devices, memory means bytes requested from PyTorch's allocator, before rounding. CPU allocations come from the
profiler's events, CUDA allocations from the caching allocator's trace (`allocator_trace`). Both include temporaries
inside operators, which tracking live tensors misses. The resident set of the process is never used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch._C._profiler import _EventType  # no public name
from torch.nn.parameter import is_lazy
from torch.profiler import ProfilerActivity, profile

from cnnperf.measure.allocator_trace import AllocatorTrace
from cnnperf.measure.memory_split import Allocation, split_peak
from cnnperf.measure.workload import Workload

# Part of the round by the start of the name of an enclosing profiler event.
ORIGINS = {"autograd::engine": "backward", "Optimizer.": "step"}
SETUP_MARK = "cnnperf.setup"


@dataclass(frozen=True)
class Memory:
    """Split of the peak memory of one round, in bytes.

    Attributes:
        peak: Sum of the next five.
        parameters: Parameters and buffers.
        gradients: Blocks that became gradients of parameters.
        optimizer: State of the optimizer.
        activations: Blocks allocated by the forward pass and alive at the peak.
        other: Images, targets and temporaries of backward pass and optimizer.
        leaked: Bytes that a finished round left allocated; not part of the peak.
        reserved: Peak bytes held by CUDA's caching allocator in a round begun with empty caches; None on the CPU.
    """

    peak: int
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    other: int
    leaked: int = 0
    reserved: int | None = None

    def split(self) -> dict[str, int]:
        """Return the peak and its five parts by the names of their metrics."""
        return {
            "peak_memory": self.peak,
            "parameter_memory": self.parameters,
            "gradient_memory": self.gradients,
            "optimizer_memory": self.optimizer,
            "activation_memory": self.activations,
            "other_memory": self.other,
        }


def reserved_bytes(device: torch.device) -> int:
    """Empty the cache of CUDA's allocator, and return the bytes that it still holds; 0 on the CPU."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(device)


def measure_memory(workload: Workload, reserved_before: int = 0) -> Memory:
    """Measure the memory of one untimed round of a warm workload.

    A round that leaves bytes allocated is repeated after a garbage collection, because a reference cycle that awaits
    collection is no leak. On the CPU, where the profiler does not see that a block of before the round is freed, what
    two rounds leave decides: a network may replace a tensor in each call.

    Args:
        workload: The workload.
        reserved_before: Bytes that the allocator held for other workloads before this one was built.
    """
    measure_round = _cuda_round if workload.images.is_cuda else _cpu_round
    memory = measure_round(workload)
    if memory.leaked:
        gc.collect()
        memory = measure_round(workload)
    if memory.leaked and not workload.images.is_cuda:
        memory = replace(memory, leaked=max(0, _left_by_two_rounds(workload) - memory.leaked))
    return memory if memory.reserved is None else replace(memory, reserved=memory.reserved - reserved_before)


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of the distinct storages of tensors; lazy ones, whose layer is not called, have none."""
    storages = (tensor.untyped_storage() for tensor in tensors if not is_lazy(tensor))
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return sum(sizes.values())


def _cpu_round(workload: Workload) -> Memory:
    workload.reset()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        with torch.profiler.record_function(SETUP_MARK):
            workload.setup()
        workload.run()
        gradients = _gradient_addresses(workload)
        workload.release()
    return _memory_of(workload, _events(profiler, "cpu"), gradients)


def _left_by_two_rounds(workload: Workload) -> int:
    """Return the bytes that two rounds leave allocated, as far as the profiler sees it."""
    workload.reset()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(2):
            workload.run_once()
            workload.release()
    return split_peak(_events(profiler, "cpu"), ())["leaked"]


def _cuda_round(workload: Workload) -> Memory:
    """Measure a round without a profiler: CUPTI would stay attached and slow later timed rounds."""
    device = workload.images.device
    workload.reset()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()  # blocks cached by earlier cases would count as reserved
    torch.cuda.reset_peak_memory_stats(device)
    with AllocatorTrace(device) as trace, workload.marking(trace.mark):
        trace.mark("forward", counted=False)
        workload.setup()
        trace.mark("forward")
        workload.run()
        gradients = _gradient_addresses(workload)
        workload.release()
        torch.cuda.synchronize(device)
        allocations = trace.allocations()
    reserved = torch.cuda.memory_stats(device)["reserved_bytes.all.peak"]
    return _memory_of(workload, allocations, gradients, reserved)


def _gradient_addresses(workload: Workload) -> list[int]:
    # Not those of `Workload.gradients`, which are new tensors where a loss is scaled.
    tensors = (*workload.model.parameters(), *workload.task.inputs)
    return [tensor.grad.untyped_storage().data_ptr() for tensor in tensors if tensor.grad is not None]


def _memory_of(
    workload: Workload, allocations: Sequence[Allocation], gradients: Sequence[int], reserved: int | None = None
) -> Memory:
    split = split_peak(allocations, gradients)
    parameters = tensor_bytes([*workload.model.parameters(), *workload.model.buffers()])
    optimizer = tensor_bytes(workload.optimizer_state())
    other = split["other"] + tensor_bytes(workload.task.tensors())
    return Memory(
        peak=parameters + optimizer + other + split["gradients"] + split["activations"],
        parameters=parameters,
        gradients=split["gradients"],
        optimizer=optimizer,
        activations=split["activations"],
        other=other,
        leaked=split["leaked"],
        reserved=reserved,
    )


def _events(profiler: profile, device_type: str) -> list[Allocation]:
    """Return the allocations on one device in order of time."""
    results = cast(Any, profiler.profiler).kineto_results
    pairs: list[tuple[Any, Allocation]] = []
    for root in results.experimental_event_tree():
        pairs.extend(_walk(root, "forward"))
    pairs.sort(key=lambda pair: pair[0].start_time_ns)
    return [allocation for node, allocation in pairs if node.extra_fields.device.type == device_type]


def _walk(node: Any, origin: str, *, counted: bool = True) -> Iterator[tuple[Any, Allocation]]:
    """Yield the allocation nodes below a node of the profiler's tree, each with its allocation."""
    if node.tag == _EventType.Allocation:
        yield node, Allocation(node.extra_fields.ptr, node.extra_fields.alloc_size, origin, counted)
        return
    origin = next((part for mark, part in ORIGINS.items() if node.name.startswith(mark)), origin)
    for child in node.children:
        yield from _walk(child, origin, counted=counted and node.name != SETUP_MARK)
