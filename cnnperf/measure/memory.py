"""Memory: the most bytes held at once, and what they were.

One definition on both devices: bytes asked from the framework's allocator, before it rounds them. The CPU's allocations
are read from the profiler's events, CUDA's from the caching allocator's own trace (`allocator_trace`). Both see
temporaries inside operators, which the tracking of tensors does not. The resident set of a process is never used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch._C._profiler import _EventType  # it has no public name
from torch.profiler import ProfilerActivity, profile

from cnnperf.measure.allocator_trace import AllocatorTrace
from cnnperf.measure.memory_split import Allocation, split_peak
from cnnperf.measure.workload import Workload

# Names of enclosing profiler events that tell when memory was asked for.
ORIGINS = {"autograd::engine": "backward", "Optimizer.": "step"}
SETUP_MARK = "cnnperf.setup"


@dataclass(frozen=True)
class Memory:
    """Split the bytes that were held at the peak of one round; all in bytes.

    Attributes:
        peak: Sum of the next five.
        parameters: Parameters and buffers.
        gradients: Blocks that ended as gradients of parameters.
        optimizer: State of the optimizer.
        activations: Blocks allocated by the forward pass and alive at the peak.
        other: Images, targets and temporaries of backward and optimizer.
        leaked: Bytes that a finished round left behind; not part of the peak.
        reserved: Most bytes that CUDA's caching allocator held in a round begun with empty caches; None on the CPU.
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


def measure_memory(workload: Workload) -> Memory:
    """Run one round of a warm workload under the allocator's eyes, in a pass of its own.

    A round that leaves bytes behind is repeated after a garbage collection, so that a mere reference cycle waiting
    for its collector is not taken for a leak.
    """
    one_round = _cuda_round if workload.images.is_cuda else _cpu_round
    memory = one_round(workload)
    if memory.leaked:
        gc.collect()
        memory = one_round(workload)
    return memory


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of the distinct storages behind some tensors."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _cpu_round(workload: Workload) -> Memory:
    workload.reset()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        with torch.profiler.record_function(SETUP_MARK):
            workload.setup()
        workload.run()
        gradients = _gradient_addresses(workload)
        workload.release()
    return _memory_of(workload, _events(profiler, "cpu"), gradients)


def _cuda_round(workload: Workload) -> Memory:
    """No profiler is attached, because CUPTI would stay and slow the timed rounds that follow."""
    device = workload.images.device
    workload.reset()
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()  # or what earlier cases left there would count as reserved
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
    return [gradient.untyped_storage().data_ptr() for gradient in workload.gradients().values()]


def _memory_of(
    workload: Workload, allocations: Sequence[Allocation], gradients: Sequence[int], reserved: int | None = None
) -> Memory:
    split = split_peak(allocations, gradients)
    parameters = tensor_bytes([*workload.model.parameters(), *workload.model.buffers()])
    optimizer = tensor_bytes(workload.optimizer_state())
    other = split["other"] + tensor_bytes([workload.images, workload.target])
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
    """Return the allocation events of one device in order of time."""
    results = cast(Any, profiler.profiler).kineto_results
    timed = [pair for root in results.experimental_event_tree() for pair in _walk(root, "forward")]
    ordered = sorted(timed, key=lambda pair: pair[0].start_time_ns)
    return [allocation for node, allocation in ordered if node.extra_fields.device.type == device_type]


def _walk(node: Any, origin: str, *, counted: bool = True) -> Iterator[tuple[Any, Allocation]]:
    """Yield the allocations under a node of the profiler's tree with the part of the round that they happened in."""
    if node.tag == _EventType.Allocation:
        yield node, Allocation(node.extra_fields.ptr, node.extra_fields.alloc_size, origin, counted)
        return
    origin = next((part for mark, part in ORIGINS.items() if node.name.startswith(mark)), origin)
    for child in node.children:
        yield from _walk(child, origin, counted=counted and node.name != SETUP_MARK)
