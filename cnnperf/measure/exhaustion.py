"""Memory that has run out: told as an answer about the case, and handed back before the next."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnnperf.errors import OutOfMemory
from cnnperf.measure.case import Case


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Turn the errors of the allocators into one of ours.

    Raises:
        OutOfMemory: If memory runs out inside.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"out of memory: {_first_line(error)}") from error
    except RuntimeError as error:
        # The CPU allocator has no exception of its own: c10/core/impl/alloc_cpu.cpp.
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise OutOfMemory(f"out of memory: {_first_line(error)}") from error


def release_caches(case: Case) -> None:
    """Hand back what a case has left in the caches of its device; its error, which holds its tensors, must be gone."""
    gc.collect()
    if case.device_type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
