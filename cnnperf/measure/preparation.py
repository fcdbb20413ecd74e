"""Preparation of a case: it is built, compiled, checked against float64, and its memory is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import torch

from cnnperf.errors import WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.correctness import References
from cnnperf.measure.memory import measure_memory, reserved_bytes
from cnnperf.measure.outcome import Prepared
from cnnperf.measure.rotation import replayed
from cnnperf.measure.work import count_work
from cnnperf.measure.workload import Workload
from cnnperf.models.catalog import CATALOG
from cnnperf.records.case import Case
from cnnperf.records.engines import ENGINES


@dataclass
class Preparation:
    """Preparation of the cases of one run, which share references.

    A whole training step and its backward pass run the same graph. On the CPU the second of the two cases uses the
    network of the first, as long as that is prepared, and is not compiled again. On CUDA it has a network of its own:
    the memory that the allocator reserves for a case is the growth since before its network was built.

    Attributes:
        input_kind: `synthetic` or `photos`.
        make_workload: Function that builds the workload of a case instead; its networks are not shared.
        references: Exact results, whose workloads come from the same builder as those of the cases.
    """

    input_kind: str
    make_workload: Callable[[Case], Workload] | None = None
    references: References = field(init=False)
    _trained: MutableMapping[Case, Prepared] = field(init=False, default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        """Create the references."""
        self.references = References(self.new_workload)

    def ready(self, case: Case) -> Prepared:
        """Return a case once it is ready to be sampled.

        Raises:
            OutOfMemory: If the case needs more memory than there is.
            WrongResult: If its results are wrong, or a catalog network has graph breaks or was not compiled at all.
        """
        start = time.perf_counter()
        work = count_work(case)
        reserved = reserved_bytes(torch.device(case.device))
        beside = self._compiled_beside(case)
        workload = self.workload_of(case, beside.workload if beside else None)
        facts = compilation.compile_first_round(workload)
        if facts is None and beside and beside.facts:
            facts = replace(beside.facts, shared=True)
        compilation.check_graph(case, facts)
        verified = self.references.verify(workload)
        if facts is None and case.compiled and case.architecture in CATALOG:
            raise WrongResult(f"{case.label()}: nothing was compiled, the network would run eagerly; nothing was timed")
        engine = ENGINES[case.engine]
        memory = None if engine.replays_graphs else measure_memory(workload, reserved)
        subject = replayed(workload) if engine.rotates else workload
        ready = Prepared(workload, subject, work, facts, verified, memory, time.perf_counter() - start)
        if case.trains:
            self._trained[_backward_of(case)] = ready
        return ready

    def workload_of(self, case: Case, beside: Workload | None = None) -> Workload:
        """Build a workload that compiles at its first round if its engine does.

        Args:
            case: The case.
            beside: Compiled workload whose network it uses; see `Workload`.
        """
        if beside is not None:
            return Workload(case, input_kind=self.input_kind, beside=beside)
        workload = self.new_workload(case)
        if case.compiled:
            workload.compile()
        return workload

    def new_workload(self, case: Case) -> Workload:
        """Build a workload with a network of its own, not compiled."""
        if self.make_workload is not None:
            return self.make_workload(case)
        return Workload(case, input_kind=self.input_kind)

    def _compiled_beside(self, case: Case) -> Prepared | None:
        """Return what is prepared of the same network, compiled for the same training, if the case may use it."""
        if not (case.compiled and case.trains and case.device_type == "cpu") or self.make_workload is not None:
            return None
        return self._trained.get(_backward_of(case))


def _backward_of(case: Case) -> Case:
    return case.replace(phase="backward")
