"""Findings: reasons to distrust a number. Each says what was seen, what it means and what to do."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scipy.stats import kendalltau

from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.device import DeviceFacts
from cnnperf.measure.memory import Memory
from cnnperf.measure.nvidia import POWER_CAP
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.records.finding import Finding
from cnnperf.records.metrics import Value

SPREAD_FACTOR = 2.5  # times the wanted half-width
DRIFT_SHIFT = 0.03
DRIFT_SIGNIFICANCE = 0.01
STALL_FACTOR = 10.0
WAITING_SHARE = 0.5
LAUNCH_BOUND = 0.7
FEW_GROUPS = 6


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks of one case look at.

    Attributes:
        samples: The readings.
        schedule: What was asked of the sampler.
        on_cuda: Whether the case ran on CUDA.
        memory: The split of the peak, with leaked bytes; None where it cannot be seen.
        compiled: Compile facts, or None for a case without compilation.
        recompiles: Graphs captured after the first rounds.
        device: What was found of the case on its CUDA device, or None.
        compared: Whether results could be compared with float64.
        ceiling_fraction: Time at the nearer ceiling over latency, or None.
    """

    samples: Samples
    schedule: Schedule
    on_cuda: bool
    memory: Memory | None
    compiled: CompileFacts | None = None
    recompiles: int = 0
    device: DeviceFacts | None = None
    compared: bool = True
    ceiling_fraction: Value | None = None


class Seen(NamedTuple):
    """What a check found: its text, and its severity, the larger, the worse; 0 for what has no quantity."""

    text: str
    severity: float = 0.0


@dataclass(frozen=True)
class Check:
    """One row of the table of checks.

    Attributes:
        kind: Name of the check.
        meaning: Effect on the numbers.
        remedy: What to do.
        look: Returns what was found, or None.
    """

    kind: str
    meaning: str
    remedy: str
    look: Callable[[Evidence], Seen | None]


def findings_of(evidence: Evidence) -> list[Finding]:
    """Return the findings of one case, in the order of the table."""
    found = [(check, check.look(evidence)) for check in CHECKS]
    return [
        Finding(check.kind, seen.text, check.meaning, check.remedy, seen.severity)
        for check, seen in found
        if seen is not None
    ]


def machine_findings(before: Mapping[str, object], load_at_end: float | None) -> list[Finding]:
    """Return the findings about the machine that hold for the whole run.

    Args:
        before: The environment record from the start of the run.
        load_at_end: Load average when the run ended.
    """
    findings = []
    cpus, load = before.get("cpu_count"), before.get("load_average")
    if isinstance(cpus, int) and isinstance(load, float) and load > 0.5 * cpus:
        end = "" if load_at_end is None else f" ({load_at_end:.1f} at its end)"
        findings.append(
            Finding(
                "loaded machine",
                f"load average {load:.1f} on {cpus} CPUs when the run began{end}",
                "other programs took CPU time; medians are too high and intervals too narrow",
                "end them, or compare only ratios of cases inside this run",
            )
        )
    others = before.get("gpu_other_processes")
    if isinstance(others, int) and others > 0:
        findings.append(
            Finding(
                "shared device",
                f"{others} other processes compute on the GPU",
                "they take memory, clocks and time slices of the device",
                "end them, or choose another device with --cnnperf-device cuda:N",
            )
        )
    if before.get("cpu_allocator") == "unavailable":
        findings.append(
            Finding(
                "allocator",
                "the C library has no control over retained memory",
                "large CPU tensors may be page-faulted afresh in every call, which CUDA never pays",
                "compare CPU and CUDA on Linux with glibc, or preload an allocator that retains memory",
            )
        )
    return findings


def _spread(evidence: Evidence) -> Seen | None:
    limit = SPREAD_FACTOR * evidence.schedule.interval
    half_width = evidence.samples.latency().half_width
    if half_width <= limit:
        return None
    return Seen(f"the median's interval is ±{half_width:.1%}, wanted ±{evidence.schedule.interval:.1%}", half_width)


def _drift(evidence: Evidence) -> Seen | None:
    medians = [statistics.median(group) for group in evidence.samples.wall()]
    if len(medians) < FEW_GROUPS:
        return None
    third = max(1, len(medians) // 3)
    shift = statistics.median(medians[-third:]) / statistics.median(medians[:third]) - 1
    significance = float(kendalltau(range(len(medians)), medians).pvalue)
    if abs(shift) < DRIFT_SHIFT or math.isnan(significance) or significance > DRIFT_SIGNIFICANCE:
        return None
    direction = "slower" if shift > 0 else "faster"
    return Seen(f"rounds became {abs(shift):.1%} {direction} from first to last third", abs(shift))


def _warmup(evidence: Evidence) -> Seen | None:
    if evidence.samples.steady:
        return None
    rounds = evidence.samples.warmup_rounds
    return Seen(f"still becoming faster after {rounds} warm-up rounds", rounds)


def _small_sample(evidence: Evidence) -> Seen | None:
    groups = len(evidence.samples.groups)
    if groups >= FEW_GROUPS:
        return None
    kind = "groups" if evidence.on_cuda else "memory placements"
    return Seen(f"{groups} {kind}, {len(evidence.samples.flat())} rounds", -groups)


def _waiting(evidence: Evidence) -> Seen | None:
    if evidence.on_cuda:
        return None
    busy = evidence.samples.cpu_busy()
    return Seen(f"computed during {busy:.0%} of the call", -busy) if busy < WAITING_SHARE else None


def _stall(evidence: Evidence) -> Seen | None:
    walls = [reading.wall for reading in evidence.samples.flat()]
    longest = max(walls) / statistics.median(walls)
    return Seen(f"one round took {longest:.0f} times the median", longest) if longest > STALL_FACTOR else None


def _leak(evidence: Evidence) -> Seen | None:
    leaked = 0 if evidence.memory is None else evidence.memory.leaked
    return Seen(f"a round left {leaked} bytes allocated", leaked) if leaked > 0 else None


def _launch_bound(evidence: Evidence) -> Seen | None:
    busy = None if evidence.device is None else evidence.device.values.get("device_busy")
    if busy is None or busy.value >= LAUNCH_BOUND:
        return None
    return Seen(f"the device computed during {busy.value:.0%} of the call", -busy.value)


def _not_queued(evidence: Evidence) -> Seen | None:
    waits = evidence.device is not None and not evidence.device.queued
    return Seen("the host could not launch a whole call before the device began it") if waits else None


def _host_bound_queue(evidence: Evidence) -> Seen | None:
    empty = evidence.device is not None and not evidence.device.queue_full
    return Seen("calls that followed one another were launched no faster than the device did them") if empty else None


def _above_ceiling(evidence: Evidence) -> Seen | None:
    fraction = evidence.ceiling_fraction
    if fraction is None or fraction.low is None or fraction.low <= 1:
        return None
    return Seen(f"the case takes {1 / fraction.value:.0%} of the least time by the measured ceilings", fraction.value)


def _graph_break(evidence: Evidence) -> Seen | None:
    facts = evidence.compiled
    if facts is None or facts.graph_breaks == 0:
        return None
    return Seen(f"{facts.graph_breaks} graph breaks; first reason: {facts.break_reasons[0]}", facts.graph_breaks)


def _no_cuda_graph(evidence: Evidence) -> Seen | None:
    skipped = 0 if evidence.compiled is None else evidence.compiled.graphs_skipped
    return Seen(f"{skipped} graphs could not be made CUDA graphs", skipped) if skipped else None


def _unseen_memory(evidence: Evidence) -> Seen | None:
    return Seen("memory was not measured") if evidence.memory is None else None


def _recompiled(evidence: Evidence) -> Seen | None:
    count = evidence.recompiles
    return Seen(f"{count} graphs compiled after the first call", count) if count else None


def _not_compared(evidence: Evidence) -> Seen | None:
    return None if evidence.compared else Seen("the network draws random numbers")


def _power_cap(evidence: Evidence) -> Seen | None:
    capped = POWER_CAP in _slowdowns(evidence)
    return Seen("the GPU lowered its clocks to keep its power limit") if capped else None


def _throttled(evidence: Evidence) -> Seen | None:
    reasons = [reason for reason in _slowdowns(evidence) if reason != POWER_CAP]
    return Seen(f"the GPU lowered its clocks: {', '.join(reasons)}") if reasons else None


def _slowdowns(evidence: Evidence) -> tuple[str, ...]:
    return () if evidence.device is None else evidence.device.slowdowns


CHECKS = (
    Check(
        "spread",
        "differences smaller than that cannot be seen",
        "raise --cnnperf-time, or free the machine",
        _spread,
    ),
    Check(
        "drift",
        "the machine changed under the measurement (clocks, temperature, load)",
        "measure again; let the machine cool or idle first",
        _drift,
    ),
    Check("warm-up", "the first groups are slower than the steady state", "raise --cnnperf-time", _warmup),
    Check(
        "small sample",
        "fewer than 6 groups of rounds cannot give a 95 % interval; the range is shown instead",
        "raise --cnnperf-time",
        _small_sample,
    ),
    Check(
        "waiting",
        "the call slept, waited for input, or lost the CPU to other programs",
        "look for waits in the network; free the machine",
        _waiting,
    ),
    Check(
        "stall",
        "the process was stopped or the machine paused meanwhile",
        "measure again if it recurs",
        _stall,
    ),
    Check(
        "leak",
        "each call keeps memory; a long run would end out of memory",
        "look for lists, caches or hooks that keep tensors",
        _leak,
    ),
    Check(
        "launch-bound",
        "the time is that of launching kernels, not of computing",
        "use a larger batch, --cnnperf-axis engine=compile, or read queued_throughput",
        _launch_bound,
    ),
    Check(
        "graph break",
        "parts of the network ran in Python between graphs",
        "rewrite what Dynamo names; TORCH_LOGS=graph_breaks tells where",
        _graph_break,
    ),
    Check(
        "no CUDA graph",
        "these parts were launched kernel by kernel",
        "TORCH_LOGS=perf_hints tells why: inputs that are written to, work on the CPU, shapes that change",
        _no_cuda_graph,
    ),
    Check(
        "unseen memory",
        "CUDA graphs hold memory of their own, in which a replay allocates nothing",
        "read the memory of engine compile, and reserve more than that",
        _unseen_memory,
    ),
    Check(
        "recompiled",
        "compilation happened among the timed rounds",
        "look for Python values that change between calls; TORCH_LOGS=recompiles tells which",
        _recompiled,
    ),
    Check(
        "not compared",
        "two executions never agree, so correctness was checked for finite values only",
        "switch dropout off to have it compared",
        _not_compared,
    ),
    Check(
        "device time",
        "what the device needs itself cannot be told from launching and waiting",
        "look for .item(), .cpu() and prints in the network; a scaled loss (amp_fp16) waits by itself; a queue holds "
        "about a thousand launches, and --cnnperf-axis engine=compile needs fewer",
        _not_queued,
    ),
    Check(
        "host-bound queue",
        "queued_throughput is what the host can launch, not what the device can do",
        "use a larger batch, or --cnnperf-axis engine=compile",
        _host_bound_queue,
    ),
    Check(
        "above the ceiling",
        "it did less than is counted (as Winograd's convolutions do), found its data in cache, or the ceilings were "
        "measured in a worse moment",
        "read flop_rate as work done in a second, not as a share of what the device can do",
        _above_ceiling,
    ),
    Check(
        "power cap",
        "the time is that of this power limit; under large products that is usual",
        "compare with runs of the same limit (`nvidia-smi -q -d POWER`)",
        _power_cap,
    ),
    Check(
        "throttled",
        "clocks were below what the device can do",
        "look after cooling and power supply, and measure again",
        _throttled,
    ),
)
