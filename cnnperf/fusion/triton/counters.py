"""Counters on a GPU by which the programs of a launch find out which of them is the last; all 0 between launches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

LEAST = 4096
"""Counters made at a time: more than most maps have samples or blocks of channels."""

_kept: dict[tuple[torch.device, int], Tensor] = {}


def counters_for(x: Tensor, count: int) -> Tensor:
    """Return at least `count` counters, int32 and 0, that nothing else uses before the next launch on this stream.

    Launches on one stream follow one another, so that they can share counters; the last program of each sets them back
    to 0. What is captured into a CUDA graph gets its own, which the graph sets to 0: it may be replayed on any stream.
    """
    if not x.is_cuda:  # Triton's interpreter
        return torch.zeros(count, dtype=torch.int32)
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=x.device)
    place = x.device, torch.cuda.current_stream(x.device).cuda_stream
    kept = _kept.get(place)
    if kept is None or kept.numel() < count:
        # A thread of its own, because allocations of this one may go to a pool that CUDA-graph trees expect to be empty
        # after their warm-up (torch/_inductor/cudagraph_trees.py, check_memory_pool).
        with ThreadPoolExecutor(1) as pool:
            kept = pool.submit(_make, x.device, max(count, LEAST)).result()
        _kept[place] = kept
    return kept


def _make(device: torch.device, count: int) -> Tensor:
    with torch.cuda.device(device):
        made = torch.zeros(count, dtype=torch.int32, device=device)
        torch.cuda.current_stream().synchronize()
    return made
