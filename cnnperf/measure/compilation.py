"""Compile facts: what torch.compile did for a case, from the counters of Dynamo and Inductor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch

from cnnperf.errors import WrongResult
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG
from cnnperf.records.case import Case

RECOMPILE_LIMIT = 64  # compiled networks of one class in a block; all count against one limit


@dataclass(frozen=True)
class CompileFacts:
    """Facts about the compilation of one case.

    Attributes:
        seconds: Seconds of the first round, which includes all compilation.
        cold: Whether any graph was compiled rather than read from the compile cache.
        graphs: Number of captured graphs.
        graph_breaks: Number of fallbacks to Python, repetitions included.
        break_reasons: First lines of Dynamo's reasons for graph breaks.
        kernels: Number of kernels that Inductor generated for one call, without calls into libraries.
        graphs_skipped: Number of graphs that could not be made CUDA graphs.
        shared: Whether the graph was compiled for another case, whose facts these are.
    """

    seconds: float
    cold: bool
    graphs: int
    graph_breaks: int
    break_reasons: tuple[str, ...]
    kernels: int
    graphs_skipped: int = 0
    shared: bool = False


def load_compiler() -> float:
    """Load the modules of the compiler, which takes about a second the first time; return the seconds."""
    start = time.perf_counter()
    import_module("torch._inductor.compile_fx")
    return time.perf_counter() - start


@contextmanager
def fresh_compiler() -> Iterator[None]:
    """Reset the compiler for a block of cases, which are compiled one after the other and then all called.

    Without the reset, the recompile limit of an earlier block could silently make a case run eagerly. The limit counts
    per code object, and networks of one class share theirs, so that it is raised for the block.
    """
    load_compiler()
    from torch._dynamo import config

    torch.compiler.reset()
    with config.patch(recompile_limit=RECOMPILE_LIMIT):
        yield


def compile_first_round(workload: Workload) -> CompileFacts | None:
    """Run the first round of a workload with reset counters; keep its gradients. Call it within `fresh_compiler`.

    Returns:
        The facts; None if nothing was compiled.
    """
    from torch._dynamo.utils import counters
    from torch._inductor import metrics

    load_compiler()
    counters.clear()
    metrics.reset()
    seconds = _timed_round(workload)
    graphs = captured_graphs()
    if graphs == 0:
        return None
    reasons = tuple(sorted(str(reason).splitlines()[0] for reason in counters["graph_break"]))
    return CompileFacts(
        seconds=seconds,
        cold=counters["inductor"]["fxgraph_cache_miss"] > 0 or counters["inductor"]["fxgraph_cache_bypass"] > 0,
        graphs=graphs,
        graph_breaks=sum(counters["graph_break"].values()),
        break_reasons=reasons,
        kernels=metrics.generated_kernel_count,
        graphs_skipped=counters["inductor"]["cudagraph_skips"],
    )


def captured_graphs() -> int:
    """Return the number of graphs that Dynamo has captured since its counters were cleared."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


class RecompileCounter:
    """Counter of the graphs that each case captures during sampling."""

    def __init__(self) -> None:
        """Begin with the graphs captured so far."""
        self.by_case: Counter[Case] = Counter()
        self._seen = captured_graphs()

    def after_turn(self, case: Case) -> None:
        """Count what was captured since the last turn of any case."""
        before, self._seen = self._seen, captured_graphs()
        self.by_case[case] += self._seen - before


def check_graph(case: Case, facts: CompileFacts | None) -> None:
    """Refuse graph breaks in a network of the catalog; in a user's network they are a finding.

    Raises:
        WrongResult: If a network of the catalog has graph breaks.
    """
    if not case.compiled or case.architecture not in CATALOG:
        return
    if facts is not None and facts.graph_breaks:
        raise WrongResult(
            f"{case.label()}: {facts.graph_breaks} graph breaks, but a network of the catalog must have none: "
            f"{facts.break_reasons[0]}; nothing was timed. TORCH_LOGS=graph_breaks shows where"
        )


def _timed_round(workload: Workload) -> float:
    start = time.perf_counter()
    workload.run_once()
    if workload.images.is_cuda:
        torch.cuda.synchronize(workload.images.device)
    return time.perf_counter() - start
