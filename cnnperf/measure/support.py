"""Requirements of a case: whether this machine can run it, and the process-wide settings that it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch

from cnnperf.errors import UnsupportedCase
from cnnperf.fusion.architectures import reason_not_fused
from cnnperf.measure.control_groups import cpu_quota
from cnnperf.measure.precisions import PRECISIONS, allowed_tf32
from cnnperf.models.catalog import resolve
from cnnperf.models.modes import preserved_modes
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES


def check_supported(case: Case) -> None:
    """Check that this machine can run a case.

    Raises:
        UnsupportedCase: If the device is missing or lacks the precision or engine, there are more threads than cores, a
            fused network would run without its kernels, or the case needs several processes.
    """
    if case.device_type == "cuda" and not torch.cuda.is_available():
        raise UnsupportedCase("no CUDA device")
    precision = PRECISIONS[case.precision]
    if precision.cuda_only and case.device_type == "cpu":
        raise UnsupportedCase(f"{case.precision}: {precision.cuda_only}")
    engine = ENGINES[case.engine]
    if engine.cuda_only and case.device_type == "cpu":
        raise UnsupportedCase(f"{case.engine}: {engine.cuda_only}")
    row = resolve(case.architecture)
    if engine.rotates and not row.maps:
        raise UnsupportedCase(f"{case.engine}: only parts of networks are replayed; use cudagraphs")
    if precision.scales_loss and row.maps:
        raise UnsupportedCase(f"{case.precision}: a part of a network has no loss to scale")
    if precision.operands == "bf16" and case.device_type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UnsupportedCase("this CUDA device does not compute in bf16")
    if case.threads > (cores := cpu_cores()):
        raise UnsupportedCase(f"{case.threads} threads: this process may use {cores} cores")
    if reason := reason_not_fused(row, case.device_type):
        raise UnsupportedCase(reason)
    if case.world_size > 1:
        raise UnsupportedCase("several processes; use `torchrun -m cnnperf.scaling`")


def cpu_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and by the quota of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


@contextmanager
def in_force(case: Case) -> Iterator[None]:
    """Apply the process-wide settings of a case, TF32 and CPU threads, inside the block.

    After it they are restored, and so are modes and random states that the network has changed.
    """
    with preserved_modes(), allowed_tf32(case.precision), _threads(case):
        yield


@contextmanager
def _threads(case: Case) -> Iterator[None]:
    before = torch.get_num_threads()
    if case.threads:
        torch.set_num_threads(case.threads)
    try:
        with _compiled_threads(case):
            yield
    finally:
        torch.set_num_threads(before)


def _compiled_threads(case: Case) -> AbstractContextManager[None]:
    """Set Inductor's `cpp.threads`: generated code contains its thread count, but cache keys contain only settings."""
    if not case.threads or not case.compiled:
        return nullcontext()
    from torch._inductor import config

    return cast(AbstractContextManager[None], config.patch({"cpp.threads": case.threads}))
