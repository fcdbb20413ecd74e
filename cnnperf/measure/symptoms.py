"""Symptoms of distorted measurements: functions that examine the evidence of one case, one for each check."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from scipy.stats import kendalltau

from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.device import DeviceFacts
from cnnperf.measure.memory import Memory
from cnnperf.measure.nvidia import POWER_CAP
from cnnperf.measure.sampler import Samples, Schedule
from cnnperf.records.metrics import Value

SPREAD_FACTOR = 2.5  # times the requested half-width
BLOCK_SPREAD = 0.1
"""Half-width of a latency beyond which a case of a block has a finding. A block ends by its ratios, in which
disturbances of the machine cancel, whatever the half-widths of its medians. Beyond 10 %, two latencies of a table may
differ by a fifth although the cases take equally long."""

DRIFT_SHIFT = 0.03
DRIFT_SIGNIFICANCE = 0.01
STALL_FACTOR = 10.0
WAITING_SHARE = 0.5
LAUNCH_BOUND = 0.7
FEW_GROUPS = 6


@dataclass(frozen=True)
class Evidence:
    """Input of the checks of one case.

    Attributes:
        samples: The readings.
        schedule: The sampler's schedule.
        on_cuda: Whether the case ran on CUDA.
        memory: Split of the peak, with leaked bytes; None if it cannot be observed.
        compiled: Compile facts; None for a case without compilation.
        recompiles: Graphs captured after the first rounds.
        device: Facts from the CUDA device; None on the CPU.
        notes: What measuring the network needed or left out, by the kind of the finding.
        ceiling_fraction: Ratio of the time at the nearer ceiling to the latency; None if unknown.
        ends_by_ratios: Whether the sampling ends by paired ratios, and not by the latency of the case.
    """

    samples: Samples
    schedule: Schedule
    on_cuda: bool
    memory: Memory | None
    compiled: CompileFacts | None = None
    recompiles: int = 0
    device: DeviceFacts | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    ceiling_fraction: Value | None = None
    ends_by_ratios: bool = False


class Seen(NamedTuple):
    """Observation of a check: its text, and its severity, where larger is worse and 0 means no quantity."""

    text: str
    severity: float = 0.0


def spread(evidence: Evidence) -> Seen | None:
    """Report a confidence interval of the latency that is much wider than requested; see `BLOCK_SPREAD` for blocks."""
    target = evidence.schedule.interval
    half_width = evidence.samples.latency().half_width
    if half_width <= SPREAD_FACTOR * target or (evidence.ends_by_ratios and half_width <= BLOCK_SPREAD):
        return None
    if evidence.ends_by_ratios:
        text = f"the seconds are known to ±{half_width:.1%} only; its ratios have intervals of their own"
        return Seen(text, half_width)
    return Seen(f"the median's interval is ±{half_width:.1%}, wanted ±{target:.1%}", half_width)


def drift(evidence: Evidence) -> Seen | None:
    """Report a significant trend of the group medians."""
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


def warmup(evidence: Evidence) -> Seen | None:
    """Report a warm-up that ended before rounds were steady."""
    if evidence.samples.steady:
        return None
    rounds = evidence.samples.warmup_rounds
    return Seen(f"rounds were still becoming faster after {rounds} warm-up rounds", rounds)


def small_sample(evidence: Evidence) -> Seen | None:
    """Report too few groups for a confidence interval."""
    groups = len(evidence.samples.groups)
    if groups >= FEW_GROUPS:
        return None
    kind = "groups" if evidence.on_cuda else "memory placements"
    return Seen(f"{groups} {kind}, {len(evidence.samples.flat())} rounds", -groups)


def waiting(evidence: Evidence) -> Seen | None:
    """Report a CPU call during which the process was mostly not computing."""
    if evidence.on_cuda:
        return None
    busy = evidence.samples.cpu_busy()
    return Seen(f"the process computed during {busy:.0%} of the call", -busy) if busy < WAITING_SHARE else None


def stall(evidence: Evidence) -> Seen | None:
    """Report a round that took many times the median."""
    walls = [reading.wall for reading in evidence.samples.flat()]
    longest = max(walls) / statistics.median(walls)
    return Seen(f"one round took {longest:.0f} times the median", longest) if longest > STALL_FACTOR else None


def leak(evidence: Evidence) -> Seen | None:
    """Report bytes that a finished round left allocated."""
    leaked = 0 if evidence.memory is None else evidence.memory.leaked
    return Seen(f"a round left {leaked} bytes allocated", leaked) if leaked > 0 else None


def launch_bound(evidence: Evidence) -> Seen | None:
    """Report a device that was idle for a large share of the call."""
    busy = None if evidence.device is None else evidence.device.values.get("device_busy")
    if busy is None or busy.value >= LAUNCH_BOUND:
        return None
    return Seen(f"the device computed during {busy.value:.0%} of the call", -busy.value)


def not_queued(evidence: Evidence) -> Seen | None:
    """Report a call that could not be queued as a whole."""
    waits = evidence.device is not None and not evidence.device.queued
    return Seen("the host could not launch a whole call before the device began it") if waits else None


def host_bound_queue(evidence: Evidence) -> Seen | None:
    """Report consecutive calls that waited for the host."""
    empty = evidence.device is not None and not evidence.device.queue_full
    return Seen("the host launched consecutive calls no faster than the device executed them") if empty else None


def above_ceiling(evidence: Evidence) -> Seen | None:
    """Report a latency below the least time by the measured ceilings."""
    fraction = evidence.ceiling_fraction
    if fraction is None or fraction.low is None or fraction.low <= 1:
        return None
    return Seen(f"the case takes {1 / fraction.value:.0%} of the least time by the measured ceilings", fraction.value)


def graph_break(evidence: Evidence) -> Seen | None:
    """Report places where the network fell back to Python."""
    facts = evidence.compiled
    if facts is None or facts.graph_breaks == 0:
        return None
    return Seen(f"{facts.graph_breaks} graph breaks; first reason: {facts.break_reasons[0]}", facts.graph_breaks)


def no_cuda_graph(evidence: Evidence) -> Seen | None:
    """Report graphs that were not made CUDA graphs."""
    skipped = 0 if evidence.compiled is None else evidence.compiled.graphs_skipped
    return Seen(f"{skipped} graphs could not be made CUDA graphs", skipped) if skipped else None


def unseen_memory(evidence: Evidence) -> Seen | None:
    """Report memory that CUDA graphs hide."""
    hidden = evidence.memory is None and "memory" not in evidence.notes
    return Seen("memory was not measured") if hidden else None


def recompiled(evidence: Evidence) -> Seen | None:
    """Report graphs that were compiled after the first call."""
    count = evidence.recompiles
    return Seen(f"{count} graphs compiled after the first call", count) if count else None


def noted(kind: str) -> Callable[[Evidence], Seen | None]:
    """Return the check that reports a note of the preparation."""

    def look(evidence: Evidence) -> Seen | None:
        return Seen(evidence.notes[kind]) if kind in evidence.notes else None

    return look


def power_cap(evidence: Evidence) -> Seen | None:
    """Report clocks that the GPU lowered to keep its power limit."""
    capped = POWER_CAP in _slowdowns(evidence)
    return Seen("the GPU lowered its clocks to keep its power limit") if capped else None


def throttled(evidence: Evidence) -> Seen | None:
    """Report clocks that the GPU lowered for another reason than its power limit."""
    reasons = [reason for reason in _slowdowns(evidence) if reason != POWER_CAP]
    return Seen(f"the GPU lowered its clocks: {', '.join(reasons)}") if reasons else None


def _slowdowns(evidence: Evidence) -> tuple[str, ...]:
    return () if evidence.device is None else evidence.device.slowdowns
