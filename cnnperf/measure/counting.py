"""Counters of one case, which are exactly repeatable; they are taken in a process that times nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from cnnperf.measure import compilation
from cnnperf.measure.correctness import References, results_of
from cnnperf.measure.memory import measure_memory
from cnnperf.measure.support import check_supported, in_force
from cnnperf.measure.work import NotCountable, Work, count_work
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case


def count(case: Case, input_kind: str = "synthetic") -> dict[str, Any]:
    """Check the results of a case and return its counters and fingerprints.

    Args:
        case: The case.
        input_kind: `synthetic` or `photos`.

    Returns:
        Plain JSON with two keys. `counters` has values by the names of `METRICS`. `fingerprints` has, for `output` and
        each `gradient of NAME`, the 2-norm and the dot product with seeded normal numbers.

    Raises:
        UnsupportedCase: If this machine cannot run the case.
        WrongResult: If the results are wrong.
    """
    check_supported(case)
    with in_force(case):
        return _count(case, lambda built: Workload(built, input_kind=input_kind))


def _count(case: Case, build: Callable[[Case], Workload]) -> dict[str, Any]:
    workload = build(case)
    work = _work_of(case)
    counters: dict[str, float] = {"parameters": sum(parameter.numel() for parameter in workload.model.parameters())}
    if work is not None:
        counters |= {"flop": work.flop, "traffic": work.traffic}
    if case.compiled:
        counters |= _compiled(workload)
    else:
        workload.run_once()
        counters["operators"] = _operators(workload)
        if work is not None:
            counters["live_tensor_memory"] = work.live
    References(build).verify(workload)
    memory = measure_memory(workload)
    counters |= memory.split() | {"leaked_memory": memory.leaked}
    if case.compiled:
        counters["recompiles"] = compilation.captured_graphs() - counters["graphs"]
    elif case.trains:
        counters["saved_memory"] = _saved(workload)
    return {
        "counters": counters,
        "fingerprints": {name: _fingerprint(value) for name, value in results_of(workload).items()},
    }


def _work_of(case: Case) -> Work | None:
    try:
        return count_work(case, computing=True)
    except NotCountable:
        return None


def _compiled(workload: Workload) -> dict[str, float]:
    """Compile without the cache, because cached kernels are not counted, and return the compiler's counters.

    A graph break in a submodule can leave no graph at all. The counts of graphs, kernels and bytes then fall to 0, as
    if they had improved; `uncompiled` is 1 in that case.
    """
    from torch._dynamo.utils import counters
    from torch._inductor import config, metrics
    from torch._logging._internal import set_logs

    workload.compile()
    set_logs(inductor_metrics=True)  # without it the count of bytes stays 0
    try:
        with compilation.fresh_compiler(), config.patch(fx_graph_cache=False):
            compilation.compile_first_round(workload)
    finally:
        set_logs()
    graphs = compilation.captured_graphs()
    return {
        "graphs": graphs,
        "uncompiled": int(graphs == 0),
        "graph_breaks": sum(counters["graph_break"].values()),
        "kernels": metrics.generated_kernel_count,
        "moved": metrics.num_bytes_accessed,
    }


class _Operators(TorchDispatchMode):
    """Counter of dispatched operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _operators(workload: Workload) -> int:
    operators = _Operators()
    if not workload.case.trains:
        with torch.no_grad(), operators:  # inference mode would hide operators
            workload.task.call(workload.network)
        return operators.count
    workload.setup()
    with operators:
        workload.run()
    return operators.count


def _saved(workload: Workload) -> int:
    """Return the bytes that the forward pass saves for the backward pass, without parameters, buffers and images."""
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (*workload.model.parameters(), *workload.model.buffers(), *workload.task.inputs)
    }
    saved: dict[int, torch.UntypedStorage] = {}  # references, so that no address is reused

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        workload.run_once()
    workload.release()
    return sum(storage.nbytes() for storage in saved.values())


def _fingerprint(value: torch.Tensor) -> list[float]:
    real = torch.view_as_real(value) if value.is_complex() else value
    flat = real.detach().cpu().double().flatten()
    direction = torch.randn(flat.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [float(flat.norm()), float(flat @ direction)]
