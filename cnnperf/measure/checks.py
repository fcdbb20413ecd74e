"""Findings of one case and of the machine: reasons to distrust a number, with their meaning and remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cnnperf.measure import symptoms
from cnnperf.measure.symptoms import Evidence, Seen
from cnnperf.records.finding import Finding

BUSY_LOAD = 0.5  # runnable processes per CPU


@dataclass(frozen=True)
class Check:
    """Row of the table of checks.

    Attributes:
        kind: Name of the finding.
        meaning: Effect on the numbers.
        remedy: What to do.
        look: Function that returns its observation, or None.
    """

    kind: str
    meaning: str
    remedy: str
    look: Callable[[Evidence], Seen | None]


CHECKS = (
    Check(
        "spread",
        "smaller differences of seconds cannot be detected",
        "raise --cnnperf-time, or free the machine",
        symptoms.spread,
    ),
    Check(
        "drift",
        "the machine changed during the measurement (clocks, temperature, load)",
        "measure again; let the machine cool or idle first",
        symptoms.drift,
    ),
    Check("warm-up", "the first groups are slower than the steady state", "raise --cnnperf-time", symptoms.warmup),
    Check(
        "small sample",
        "fewer than 6 groups of rounds cannot give a 95 % interval; the range is shown instead",
        "raise --cnnperf-time",
        symptoms.small_sample,
    ),
    Check(
        "waiting",
        "the call slept, waited for input, or lost the CPU to other programs",
        "look for waits in the network; free the machine",
        symptoms.waiting,
    ),
    Check(
        "stall",
        "the process or the machine was paused during it",
        "measure again if it recurs",
        symptoms.stall,
    ),
    Check(
        "leak",
        "each call keeps memory; a long run would run out of memory",
        "look for lists, caches or hooks that keep tensors",
        symptoms.leak,
    ),
    Check(
        "launch-bound",
        "the latency is the time of launching kernels, not of computing",
        "use a larger batch, --cnnperf-axis engine=compile, or read queued_throughput",
        symptoms.launch_bound,
    ),
    Check(
        "graph break",
        "parts of the network ran in Python between graphs",
        "TORCH_LOGS=graph_breaks shows where; rewrite those lines",
        symptoms.graph_break,
    ),
    Check(
        "no CUDA graph",
        "these parts were launched kernel by kernel",
        "TORCH_LOGS=perf_hints shows why: inputs that are written to, work on the CPU, or changing shapes",
        symptoms.no_cuda_graph,
    ),
    Check(
        "unseen memory",
        "CUDA graphs hold memory of their own, and a replay allocates nothing",
        "read the memory of engine compile, and reserve more than that",
        symptoms.unseen_memory,
    ),
    Check(
        "recompiled",
        "the timed rounds include compilation",
        "look for Python values that change between calls; TORCH_LOGS=recompiles shows which",
        symptoms.recompiled,
    ),
    Check(
        "not compared",
        "results were not compared with float64; finite values were checked",
        "switch dropout off, keep no state between calls, and let the network run in float64",
        symptoms.noted("not compared"),
    ),
    Check(
        "work",
        "flop, traffic and the share of the ceiling are left out",
        "let the network run on the meta device, without looking at values",
        symptoms.noted("work"),
    ),
    Check(
        "memory",
        "nothing is known about its memory",
        "measure it with torch.profiler, which may say more about the error",
        symptoms.noted("memory"),
    ),
    Check(
        "placement",
        "all rounds share one placement in memory, which another process will not have: its interval is too narrow",
        "compare with --cnnperf-processes 5, each of which has a placement of its own",
        symptoms.noted("placement"),
    ),
    Check(
        "input changed",
        "the time of the network includes its writing, but not the restoring",
        "work on a copy of the input if the caller needs it",
        symptoms.noted("input changed"),
    ),
    Check(
        "loss",
        "the backward pass may differ from that of your training",
        "return the class scores (N, classes) first",
        symptoms.noted("loss"),
    ),
    Check(
        "device time",
        "the device's own time cannot be separated from launching and waiting",
        "look for .item(), .cpu() and prints in the network; a scaled loss (amp_fp16) waits by itself; a queue holds "
        "about a thousand launches, and --cnnperf-axis engine=compile needs fewer",
        symptoms.not_queued,
    ),
    Check(
        "host-bound queue",
        "queued_throughput is what the host can launch, not what the device can do",
        "use a larger batch, or --cnnperf-axis engine=compile",
        symptoms.host_bound_queue,
    ),
    Check(
        "above the ceiling",
        "the case did less work than counted (as Winograd convolutions do), found its data in cache, or the ceilings "
        "were measured while the machine was slower",
        "read flop_rate as work per second, not as a share of what the device can do",
        symptoms.above_ceiling,
    ),
    Check(
        "power cap",
        "the latency depends on this power limit; large matrix products usually reach it",
        "compare with runs of the same limit (`nvidia-smi -q -d POWER`)",
        symptoms.power_cap,
    ),
    Check(
        "throttled",
        "clocks were below what the device can do",
        "check cooling and power supply, and measure again",
        symptoms.throttled,
    ),
)


def findings_of(evidence: Evidence) -> list[Finding]:
    """Return the findings of one case, in the order of the table."""
    findings = []
    for check in CHECKS:
        seen = check.look(evidence)
        if seen is not None:
            findings.append(Finding(check.kind, seen.text, check.meaning, check.remedy, seen.severity))
    return findings


def machine_findings(
    before: Mapping[str, object], load_at_end: float | None, throttled: int | None = None
) -> list[Finding]:
    """Return the findings about the machine, which concern the whole run.

    Args:
        before: Environment record from the start of the run.
        load_at_end: Load average at the end of the run; None if unknown.
        throttled: Number of periods of the run in which the kernel stopped this process for its CPU quota; None if
            unknown.
    """
    findings = []
    cpus, load = before.get("cpu_count"), before.get("load_average")
    if isinstance(cpus, int) and isinstance(load, float) and load > BUSY_LOAD * cpus:
        end = "" if load_at_end is None else f" ({load_at_end:.1f} at its end)"
        findings.append(
            Finding(
                "loaded machine",
                f"load average {load:.1f} on {cpus} CPUs when the run began{end}",
                "other programs took CPU time; medians are too high and intervals too narrow",
                "end them, or compare only ratios of cases of this run",
            )
        )
    tracer = before.get("tracer")
    if tracer:
        findings.append(
            Finding(
                "tracer",
                f"{tracer} traces the Python code of the process",
                "rounds include the tracing, which slows eager execution of small layers most",
                "run benchmarks without --cov and outside of debuggers",
            )
        )
    quota, threads = before.get("cpu_quota"), before.get("threads")
    if throttled and isinstance(quota, float):
        findings.append(
            Finding(
                "CPU quota",
                f"the kernel stopped the process in {throttled} periods: {threads} threads share the time of "
                f"{quota:g} CPUs",
                "rounds include these stops of up to 100 ms",
                f"export OMP_NUM_THREADS={max(1, int(quota))}, or give the container whole cores (a cpuset)",
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
                "each call may pay page faults for large CPU tensors, which CUDA never pays",
                "compare CPU and CUDA on Linux with glibc, or preload an allocator that retains memory",
            )
        )
    return findings
