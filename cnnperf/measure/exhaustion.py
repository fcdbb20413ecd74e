"""Memory that has run out: told as an answer about the case, and handed back before the next."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnnperf.errors import OutOfMemory
from cnnperf.records.case import Case

SIGNS = (
    *("can't allocate memory", "not enough memory"),  # of the CPU's allocator: c10/core/impl/alloc_cpu.cpp
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "unable to find an engine to execute"),
)
"""Of errors that have no exception of their own; cuDNN says the last where no engine's workspace fits."""


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
        if not any(sign in str(error) for sign in SIGNS):
            raise
        raise OutOfMemory(f"out of memory: {_first_line(error)}") from error


def release_caches(case: Case) -> None:
    """Hand back what a case has left in the caches of its device; its error, which holds its tensors, must be gone."""
    gc.collect()
    if case.device_type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
