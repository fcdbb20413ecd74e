"""Preparation of a case: it is built, compiled, checked against float64, and its memory is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import torch

from cnnperf.errors import CnnperfError, WrongResult
from cnnperf.measure import compilation
from cnnperf.measure.correctness import References
from cnnperf.measure.exhaustion import converting_out_of_memory
from cnnperf.measure.failures import in_one_line
from cnnperf.measure.memory import Memory, measure_memory, reserved_bytes
from cnnperf.measure.outcome import Prepared
from cnnperf.measure.rotation import replayed
from cnnperf.measure.work import NotCountable, Work, count_work
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
        reserved = reserved_bytes(torch.device(case.device))
        beside = self._compiled_beside(case)
        workload = self.workload_of(case, beside.workload if beside else None)
        work = _work_of(workload)
        facts = compilation.compile_first_round(workload)
        if facts is None and beside and beside.facts:
            facts = replace(beside.facts, shared=True)
        compilation.check_graph(case, facts)
        verified = self.references.verify(workload)
        brought = case.architecture not in CATALOG and not workload.task.of_part
        if brought:
            _try_addresses(workload)
        if facts is None and case.compiled and case.architecture in CATALOG:
            raise WrongResult(f"{case.label()}: nothing was compiled, the network would run eagerly; nothing was timed")
        engine = ENGINES[case.engine]
        memory = None if engine.replays_graphs else _memory_of(workload, reserved, brought=brought)
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


def _work_of(workload: Workload) -> Work | None:
    """Return the work of one call; None for a user's network that cannot be counted, with a note."""
    try:
        return count_work(workload.case, computing=True)
    except NotCountable as error:
        workload.notes["work"] = str(error)
        return None


def _try_addresses(workload: Workload) -> None:
    """Move the tensors of a user's network once; where that fails, they stay where they are, with a note."""
    try:
        with converting_out_of_memory():
            workload.relocate()
            workload.run_once()
    except CnnperfError:
        raise
    except Exception as error:  # noqa: BLE001 - a network may keep addresses or views of its tensors
        workload.stay(f"its tensors cannot be moved ({in_one_line(error)})")
        workload.run_once()
    workload.reset()


def _memory_of(workload: Workload, reserved: int, *, brought: bool) -> Memory | None:
    """Return the memory of a round; None for a user's network that cannot be observed, with a note."""
    try:
        with converting_out_of_memory():
            return measure_memory(workload, reserved)
    except CnnperfError:
        raise
    except Exception as error:
        if not brought:
            raise
        workload.notes["memory"] = f"memory could not be measured ({in_one_line(error)})"
        return None


def _backward_of(case: Case) -> Case:
    return case.replace(phase="backward")
