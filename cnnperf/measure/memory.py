"""Memory: the most bytes held at once, and what they were.

One definition on both devices: bytes asked from the framework's allocator. The CPU's are read from the profiler's
allocation events, CUDA's peak from the caching allocator's statistics (requested bytes, before rounding). Both see
temporaries inside operators, which the tracking of tensors does not. The resident set of a process is never used.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch._C._profiler import _EventType  # it has no public name
from torch.profiler import ProfilerActivity, profile

from cnnperf.measure.workload import Workload

# Names of enclosing profiler events that tell when memory was asked for.
ORIGINS = {"autograd::engine": "backward", "Optimizer.": "step"}
SETUP_MARK = "cnnperf.setup"


@dataclass(frozen=True)
class Allocation:
    """Describe one event of the allocator.

    Attributes:
        address: Of the block.
        size: Bytes; negative when the block is freed.
        origin: `forward`, `backward`, `step` (of the optimizer): the part of the round it happened in.
        counted: False for events of the untimed setup, whose bytes count but whose peak does not.
    """

    address: int
    size: int
    origin: str = "forward"
    counted: bool = True


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
        reserved: Bytes that CUDA's caching allocator holds; None on the CPU.
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
    memory = _one_round(workload)
    if memory.leaked:
        gc.collect()
        memory = _one_round(workload)
    if workload.images.is_cuda:
        return _with_cuda_statistics(workload, memory)
    return memory


def split_peak(events: Sequence[Allocation], gradients: Iterable[int]) -> dict[str, int]:
    """Find the peak of a round and what its bytes were.

    Args:
        events: Of the whole round, in order of time.
        gradients: Addresses of the parameters' gradients after the round.

    Returns:
        Bytes of `gradients`, `activations` and `other` at the peak, their sum as `peak`, and `leaked`: what was
        allocated in the round and never freed.
    """
    kinds = _kinds(events, set(gradients))
    held = {"gradients": 0, "activations": 0, "other": 0}
    live: dict[int, tuple[str, int]] = {}
    peak, at_peak = 0, dict(held)
    for event, kind in zip(events, kinds, strict=True):
        if event.size > 0:
            live[event.address] = (kind, event.size)
            held[kind] += event.size
        elif event.address in live:  # a block from before the round is part of the resident bytes
            kind_of_block, size = live.pop(event.address)
            held[kind_of_block] -= size
        if event.counted and sum(held.values()) > peak:
            peak, at_peak = sum(held.values()), dict(held)
    return {**at_peak, "peak": peak, "leaked": sum(held.values())}


def tensor_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Return the bytes of the distinct storages behind some tensors."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _kinds(events: Sequence[Allocation], gradients: set[int]) -> list[str]:
    """Name each allocation; an address is reused within a round, so only its last block is the gradient."""
    last = {event.address: index for index, event in enumerate(events) if event.size > 0}
    kinds = []
    for index, event in enumerate(events):
        is_gradient = event.address in gradients and last.get(event.address) == index
        kinds.append("gradients" if is_gradient else "activations" if event.origin == "forward" else "other")
    return kinds


def _one_round(workload: Workload) -> Memory:
    workload.reset()
    activities = [ProfilerActivity.CPU]
    with profile(activities=activities, profile_memory=True) as profiler:
        with torch.profiler.record_function(SETUP_MARK):
            workload.setup()
        workload.run()
        gradients = [gradient.untyped_storage().data_ptr() for gradient in workload.gradients().values()]
        workload.release()
    events = _events(profiler, workload.images.device.type)
    split = split_peak(events, gradients)
    parameters = tensor_bytes([*workload.model.parameters(), *workload.model.buffers()])
    optimizer = tensor_bytes(workload.optimizer_state())
    other = split["other"] + tensor_bytes([workload.images, workload.target])
    peak = parameters + optimizer + other + split["gradients"] + split["activations"]
    return Memory(peak, parameters, split["gradients"], optimizer, split["activations"], other, leaked=split["leaked"])


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


def _with_cuda_statistics(workload: Workload, memory: Memory) -> Memory:
    """Take the peak from the caching allocator, over what it held before the round."""
    device = workload.images.device
    workload.reset()
    workload.setup()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)["requested_bytes.all.current"]
    kept = tensor_bytes([workload.loss]) if workload.loss is not None else 0
    workload.run()
    torch.cuda.synchronize(device)
    statistics = torch.cuda.memory_stats(device)
    workload.release()
    above = statistics["requested_bytes.all.peak"] - before
    resident = memory.parameters + memory.optimizer + tensor_bytes([workload.images, workload.target])
    peak = resident + above + (memory.activations if kept else 0)
    other = peak - memory.parameters - memory.gradients - memory.optimizer - memory.activations
    return replace(memory, peak=peak, other=other, reserved=torch.cuda.memory_reserved(device))
