"""Out of memory: conversion of the errors of allocators, and release of cached memory before the next case."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cnnperf.errors import OutOfMemory
from cnnperf.records.case import Case

SIGNS = (
    *("can't allocate memory", "not enough memory"),  # CPU allocator, c10/core/impl/alloc_cpu.cpp
    *("CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "unable to find an engine to execute"),
)
"""Texts of out-of-memory errors without a type of their own; cuDNN raises the last if no engine's workspace fits."""


@contextmanager
def converting_out_of_memory() -> Iterator[None]:
    """Convert out-of-memory errors of the allocators inside the block into `OutOfMemory`.

    Raises:
        OutOfMemory: If memory runs out inside the block.
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
    """Release the memory cached on a case's device, after its error is dropped, which references its tensors."""
    gc.collect()
    if case.device_type == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
