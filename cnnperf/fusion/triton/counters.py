"""Counters on a GPU with which the last program of a launch is determined; they are 0 between launches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

LEAST = 4096
"""Fewest counters of an allocation, more than the samples or blocks of channels of most maps."""

_kept: dict[tuple[torch.device, int], Tensor] = {}


def counters_for(x: Tensor, count: int) -> Tensor:
    """Return at least `count` counters, int32 and 0, for the next launch on the current stream.

    Launches on one stream run one after the other and share counters; the last program of each sets them back to 0. A
    launch that is captured into a CUDA graph gets counters of its own, which the graph sets to 0, because the graph may
    be replayed on any stream.
    """
    if not x.is_cuda:  # Triton's interpreter
        return torch.zeros(count, dtype=torch.int32)
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=x.device)
    stream = x.device, torch.cuda.current_stream(x.device).cuda_stream
    counters = _kept.get(stream)
    if counters is None or counters.numel() < count:
        # In another thread, because allocations of this one may go to a pool that CUDA-graph trees expect to be empty
        # after their warm-up (torch/_inductor/cudagraph_trees.py, check_memory_pool).
        with ThreadPoolExecutor(1) as pool:
            counters = pool.submit(_make, x.device, max(count, LEAST)).result()
        _kept[stream] = counters
    return counters


def _make(device: torch.device, count: int) -> Tensor:
    with torch.cuda.device(device):
        counters = torch.zeros(count, dtype=torch.int32, device=device)
        torch.cuda.current_stream().synchronize()
    return counters
