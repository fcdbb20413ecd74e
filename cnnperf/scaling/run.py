"""One scaling run: every network on every number of processes, saved by the first process."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from cnnperf.errors import UnsupportedCase
from cnnperf.measure.allocator import apply_policy
from cnnperf.measure.clock import clock_for
from cnnperf.measure.correctness import References
from cnnperf.measure.environment import read_environment
from cnnperf.measure.exhaustion import converting_out_of_memory
from cnnperf.measure.sampler import Schedule, Subject
from cnnperf.measure.support import in_force
from cnnperf.measure.workload import Workload
from cnnperf.models.architecture import Architecture
from cnnperf.records.case import Case
from cnnperf.records.commit import commit_info
from cnnperf.records.run import CaseRecord, NotMeasured, Run
from cnnperf.records.writing import Journal, numbered_path, save_run
from cnnperf.scaling.arguments import Request, sizes_up_to
from cnnperf.scaling.communicator import Communicator, Group
from cnnperf.scaling.results import STRONG, WEAK, Arm, arms_of, record_of
from cnnperf.scaling.rounds import sample_ranks
from cnnperf.scaling.step import Silent, Step, communicated_bytes
from cnnperf.units import format_percent, format_quantity


@dataclass
class ScalingRun:
    """One scaling run, which saves every record in a journal as soon as it is measured.

    Attributes:
        request: Parameters of the run.
        communicator: The processes.
        device: Device of this process.
        progress: Receives lines of progress.
        records: Records of measured cases.
        not_measured: Cases that were not measured, with the reason.
        journal: Journal of the first process; None before `begin`, and in the other processes.
    """

    request: Request
    communicator: Communicator
    device: torch.device
    progress: Callable[[str], None]
    records: list[CaseRecord] = field(default_factory=list)
    not_measured: list[NotMeasured] = field(default_factory=list)
    journal: Journal | None = None
    _began: Run = field(default_factory=Run)
    _groups: dict[int, Group] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)

    @property
    def sizes(self) -> list[int]:
        """Return the numbers of processes on which each network is measured."""
        return sizes_up_to(self.communicator.size)

    def begin(self) -> str:
        """Set threads and memory policy, open the journal, and return its path in every process."""
        torch.set_num_threads(self.request.threads)
        policy = apply_policy("retain")
        if self.communicator.rank == 0:
            environment = read_environment(cpu_allocator=policy, input_kind="synthetic")
            environment |= {"world_size": self.communicator.size, "backend": self.communicator.backend}
            self._began = Run(
                time=datetime.now(UTC),
                machine_info={"node": platform.node(), "cpu": {"brand_raw": environment["cpu_model"]}},
                commit_info=commit_info(),
                suite="scaling",
                planned=len(self.request.architectures) * (2 * len(self.sizes) - 1),
                environment=environment,
                hosts=tuple(host for host, _ in self.communicator.peers),
            )
            self.journal = Journal(self._folder(), self._began)
        self._groups = {size: self.communicator.subgroup(size) for size in self.sizes if size > 1}
        return self.communicator.broadcast(str(self.journal.path) if self.journal else "")

    def measure(self) -> None:
        """Measure all networks.

        Raises:
            WrongResult: If a network computes something wrong, or a clock jumped.
            RuntimeError: If a process is lost.
        """
        count = len(self.request.architectures)
        for number, architecture in enumerate(self.request.architectures, start=1):
            case = self._case(architecture)
            sizes = "1 process" if self.communicator.size == 1 else f"{', '.join(map(str, self.sizes))} processes"
            self.progress(f"[{number}/{count}] {architecture.name}, batch {case.batch}, on {sizes}")
            with in_force(case):
                reason = self._measure(case)
            if reason:
                self._skip(case, reason)

    def save(self) -> Path:
        """Write the run file, delete the journal, and return the path of the file; only for the first process.

        Raises:
            CnnperfError: If the file cannot be written; the journal stays.
        """
        path = self.request.out or numbered_path(self.request.storage)
        save_run(path, self.record())
        if self.journal is not None:
            self.journal.delete()
        return path

    def record(self) -> Run:
        """Return the record of the run so far."""
        return self._began.replace(
            cases=tuple(self.records),
            not_measured=tuple(self.not_measured),
            wall_seconds=time.perf_counter() - self._started,
        )

    def _measure(self, case: Case) -> str:
        """Measure one network; return why it cannot be measured in some process, empty if it was measured."""
        arms = arms_of(case, self.sizes)
        built, own_reason = self._build(arms)
        for reason in self.communicator.all_gather(own_reason):
            if reason:
                return reason
        steps: dict[str, Subject | None] = {}
        for index, (arm, step) in enumerate(zip(arms, built, strict=True)):
            steps[arm.name] = step
            if arm.case.world_size > 1:
                steps[arm.silent] = None if step is None else Silent(step)
                arms[index] = replace(arm, communicated=self._join(arm.case, step))
        schedule = Schedule(self.request.budget, self.request.interval)
        gathered = sample_ranks(steps, arms[0].name, self.communicator, clock_for(self.device), schedule)
        if self.communicator.rank == 0:
            for arm in arms:
                self._add(record_of(arm, arms[0], gathered))
        return ""

    def _build(self, arms: list[Arm]) -> tuple[list[Step | None], str]:
        """Build and verify the steps of this process, None for arms without it; or return why they cannot run."""
        steps: list[Step | None] = []
        try:
            with converting_out_of_memory():
                for arm in arms:
                    takes_part = self.communicator.rank < arm.case.world_size
                    steps.append(Step(self._here(arm.case), self.communicator.rank) if takes_part else None)
                for step in steps:
                    if step is not None:
                        step.run()  # out of memory here skips the network in all processes; later it ends the run
                if steps[0] is not None:
                    References(Workload).verify(steps[0].workload)
        except UnsupportedCase as error:
            return [], f"process {self.communicator.rank}: {error}"
        return steps, ""

    def _join(self, case: Case, step: Step | None) -> int:
        """Let a step average its gradients, and return the bytes that it communicates, 0 without a step."""
        group = self._groups[case.world_size]
        if step is None:
            return 0
        step.join(group)
        step.check_average()
        return communicated_bytes(self._here(case), group)

    def _here(self, case: Case) -> Case:
        return case.replace(device=str(self.device))

    def _add(self, record: CaseRecord) -> None:
        self.records.append(record)
        if self.journal is not None:
            self.journal.add(record)
        self.progress(f"  {result_line(record)}")

    def _skip(self, case: Case, reason: str) -> None:
        for arm in arms_of(case, self.sizes):
            self.not_measured.append(NotMeasured(arm.case.axes(), reason))
            if self.journal is not None:
                self.journal.skip(self.not_measured[-1])
        self.progress(f"  not measured: {reason}")

    def _case(self, architecture: Architecture) -> Case:
        batch = self.request.batch_for(architecture.name, self.sizes)
        axes = {"device": self.request.device, "batch": batch, "image_size": architecture.image_size}
        return Case(architecture.name, "train", **axes, threads=self.request.threads)  # type: ignore[arg-type]  # by name

    def _folder(self) -> Path:
        return self.request.out.parent if self.request.out else numbered_path(self.request.storage).parent


def result_line(record: CaseRecord) -> str:
    """Return the line of progress of a measured case."""
    size, batch, values = record.case.world_size, record.case.batch, record.values
    kind = next((name for name in (WEAK, STRONG) if f"{name}_efficiency" in values), "")
    words = [f"{size} process{'es' * (size > 1)}, batch {batch}{' each' * bool(kind)}"]
    words.append(format_quantity(values["latency"].value, "s"))
    words.append(format_quantity(values["throughput"].value, "images/s"))
    if kind:
        efficiency = values[f"{kind}_efficiency"]
        interval = f"[{efficiency.low:.1%}, {efficiency.high:.1%}]"
        words.append(f"{kind} efficiency {format_percent(efficiency.value)} {interval}")
    return ", ".join(words)
