"""From a prepared case and its samples to its result: values of metrics, and findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from cnnperf.measure.checks import findings_of
from cnnperf.measure.clock import Clock
from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.correctness import Verified
from cnnperf.measure.device import DeviceClock, DeviceFacts, measure_device
from cnnperf.measure.measured import Measured
from cnnperf.measure.memory import Memory
from cnnperf.measure.nvml import Gpu
from cnnperf.measure.sampler import Samples, Schedule, Subject
from cnnperf.measure.symptoms import Evidence
from cnnperf.measure.transfers import measure_transfers
from cnnperf.measure.values import compile_seconds, compile_values, memory_values, time_values, work_values
from cnnperf.measure.work import Work
from cnnperf.measure.workload import Workload
from cnnperf.records.case import Case


@dataclass(frozen=True)
class Prepared:
    """A case ready to be sampled: its results are correct, and its memory is measured.

    Attributes:
        workload: Workload after its first rounds.
        subject: The calls that are timed.
        work: Work of one call; None if it cannot be counted.
        facts: Facts about the compilation, or None.
        verified: Result of the check.
        memory: Memory of a round, or None.
        seconds: Seconds that the preparation took.
    """

    workload: Workload
    subject: Subject
    work: Work | None
    facts: CompileFacts | None
    verified: Verified
    memory: Memory | None
    seconds: float

    @property
    def case(self) -> Case:
        """The case."""
        return self.workload.case


@dataclass(frozen=True)
class Settings:
    """Facts about the run that the result of a case needs.

    Attributes:
        clock: Clock of the device.
        schedule: Budget and precision of the sampling.
        ceilings: Ceilings of the device.
        eager_latency: Seconds of one call of the same case in eager mode, or None.
        ends_by_ratios: Whether the sampling ends by paired ratios, and not by the latency of the case.
    """

    clock: Clock
    schedule: Schedule
    ceilings: Mapping[str, float]
    eager_latency: float | None
    ends_by_ratios: bool = False


def result_of(prepared: Prepared, samples: Samples, recompiles: int, settings: Settings) -> Measured:
    """Return the result of a case.

    Args:
        prepared: The case before sampling.
        samples: Its samples.
        recompiles: Number of graphs that were compiled during sampling.
        settings: Facts about the run.
    """
    case, facts = prepared.case, prepared.facts
    on_device = _device_facts(prepared.workload, settings.clock, samples)
    times = time_values(prepared.workload, samples, prepared.work, settings.ceilings)
    evidence = Evidence(
        samples=samples,
        schedule=settings.schedule,
        on_cuda=case.device_type == "cuda",
        memory=prepared.memory,
        compiled=facts,
        recompiles=recompiles,
        device=on_device,
        notes=_notes(prepared),
        ceiling_fraction=times.get("ceiling_fraction"),
        ends_by_ratios=settings.ends_by_ratios,
    )
    values = {
        **times,
        **(on_device.values if on_device else {}),
        **memory_values(prepared.memory),
        **work_values(prepared.workload, prepared.work, prepared.verified),
        **compile_values(facts, recompiles, samples, settings.eager_latency),
    }
    seconds = 0.0 if facts is not None and facts.shared else compile_seconds(facts, samples)
    return Measured(case, values, samples, findings_of(evidence), seconds)


def _notes(prepared: Prepared) -> dict[str, str]:
    """Return what measuring the network needed or left out, by the kind of the finding."""
    reason = prepared.verified.reason
    return {**prepared.workload.notes, **({"not compared": reason} if reason else {})}


def _device_facts(workload: Workload, clock: Clock, samples: Samples) -> DeviceFacts | None:
    event = samples.event_latency()
    if event is None or samples.calls > 1:  # calls outside of a replay find their maps in cache
        return None
    device = workload.images.device
    facts = measure_device(
        workload,
        cast(DeviceClock, clock),
        (samples.latency(), event),
        workload.case.batch,
        has_setup=workload.case.phase == "backward",
        gpu=Gpu.of(device),
    )
    if workload.task.of_part:  # its maps come from the layer before it, and are never copied to the device
        return facts
    copies = measure_transfers(workload.images.cpu(), device, clock)
    return replace(facts, values={**facts.values, **copies})
