"""What only a CUDA device has: kernel time under the launch time, and throughput with a full queue."""

from __future__ import annotations

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from cnnperf.measure.clock import Clock
from cnnperf.measure.workload import Workload

QUEUE_SECONDS = 0.1
MOST_QUEUED = 100


def kernel_seconds(workload: Workload) -> float:
    """Return the seconds that kernels and copies occupy the device during one call, without gaps between them."""
    device = workload.images.device
    workload.setup()
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as profiler:
        workload.run()
        torch.cuda.synchronize(device)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    return covered(spans) / 1e6


def covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of intervals, in their unit: streams overlap, and busy time counts once."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def queued_seconds(workload: Workload, clock: Clock, latency: float) -> float | None:
    """Return seconds a call with several calls in the queue, or None for a phase that needs setup between calls."""
    if workload.case.phase == "backward":
        return None
    calls = max(2, min(MOST_QUEUED, int(QUEUE_SECONDS / latency)))
    return clock.read_queue(workload.run, calls) / calls
