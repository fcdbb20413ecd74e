"""Values of the metrics of one case, derived from samples, counted work, memory and compile facts."""

from __future__ import annotations

from collections.abc import Mapping

from cnnperf.measure.ceilings import ceiling_seconds
from cnnperf.measure.compilation import CompileFacts
from cnnperf.measure.correctness import Verified
from cnnperf.measure.memory import Memory
from cnnperf.measure.precisions import PRECISIONS
from cnnperf.measure.sampler import Samples
from cnnperf.measure.work import Work
from cnnperf.measure.workload import Workload
from cnnperf.records.metrics import Value
from cnnperf.stats.median import median_interval


def time_values(
    workload: Workload, samples: Samples, work: Work | None, ceilings: Mapping[str, float]
) -> dict[str, Value]:
    """Return the latency and the metrics that derive from it; without counted work none that needs it."""
    case, latency, of_images = workload.case, samples.latency(), workload.task.of_images
    values = {"graph_latency": samples.setup_latency()} if case.phase == "backward" else {}
    values |= {
        "latency": latency,
        "throughput" if of_images else "call_rate": latency.scaled_inverse(case.batch if of_images else 1),
        "cpu_busy": Value(samples.cpu_busy()),
    }
    if work is not None:
        least = ceiling_seconds(work, ceilings, case.precision)
        values["flop_rate"] = latency.scaled_inverse(work.flop)
        values["ceiling_fraction"] = latency.scaled_inverse(least)
    if samples.energy and of_images:
        values["energy"] = median_interval([[joules / case.batch] for joules in samples.energy])
    return values


def memory_values(memory: Memory | None) -> dict[str, Value]:
    """Return the split of the peak, and the reserved bytes if known; empty without `memory`."""
    if memory is None:
        return {}
    values = memory.split()
    if memory.reserved is not None:
        values["reserved_memory"] = memory.reserved
    return {name: Value(value) for name, value in values.items()}


def work_values(workload: Workload, work: Work | None, verified: Verified) -> dict[str, Value]:
    """Return the number of parameters, the counted work, and the error of the results if they were compared."""
    case = workload.case
    if work is None:
        values = {"parameters": Value(sum(parameter.numel() for parameter in workload.model.parameters()))}
    else:
        values = {"parameters": Value(work.parameters), "flop": Value(work.flop), "traffic": Value(work.traffic)}
        # The count does not include autocast's copies of weights.
        if case.engine == "eager" and PRECISIONS[case.precision].autocast is None:
            values["live_tensor_memory"] = Value(work.live)
    if verified.compared:
        values["relative_error"] = Value(verified.relative_error)
    return values


def compile_values(
    facts: CompileFacts | None, recompiles: int, samples: Samples, eager_latency: float | None
) -> dict[str, Value]:
    """Return the compile facts; empty if nothing was compiled.

    Args:
        facts: Facts about the first round; None if nothing was compiled.
        recompiles: Graphs captured during the timed rounds.
        samples: Readings of the case.
        eager_latency: Seconds of the same case in eager execution, to derive `break_even`; None to omit it.
    """
    if facts is None:
        return {}
    seconds = compile_seconds(facts, samples)
    values = {
        "compile_cold" if facts.cold else "compile_warm": Value(seconds),
        "graphs": Value(facts.graphs),
        "graph_breaks": Value(facts.graph_breaks),
        "recompiles": Value(recompiles),
        "kernels": Value(facts.kernels),
    }
    latency = samples.latency().value
    if eager_latency is not None and eager_latency > latency:
        values["break_even"] = Value(seconds / (eager_latency - latency))
    return values


def compile_seconds(facts: CompileFacts | None, samples: Samples) -> float:
    """Return the seconds of the first round beyond the median round; 0 if nothing was compiled."""
    return 0.0 if facts is None else max(0.0, facts.seconds - samples.latency().value)
