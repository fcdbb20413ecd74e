"""Checks for what disturbs measurements on this machine; each names a command that helps, and none changes anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnperf.measure.control_groups import cpu_quota, throttled_periods
from cnnperf.measure.nvidia import ask, lowers_clocks
from cnnperf.records.finding import Finding

MOST_LOAD = 0.5  # runnable processes per CPU
LEAST_MEMORY = 2 * 2**30  # bytes
MOST_NAMED = 3  # processes
_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Machine:
    """Sources that the checks read.

    Attributes:
        root: Root of the file system.
        environment: Environment variables.
        cpus: Number of CPUs that this process may use.
        load: Load average over one minute; None if the system does not report it.
        gpus: Function that queries nvidia-smi and returns rows of fields, or None without an answer.
    """

    root: Path
    environment: Mapping[str, str]
    cpus: int
    load: float | None
    gpus: Callable[[str], list[list[str]] | None] = ask

    @classmethod
    def here(cls) -> Machine:
        """Return the sources of this machine."""
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return cls(Path("/"), os.environ, cpus, load)

    def text(self, path: str) -> str:
        """Return the text of a file; empty if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


def examine(machine: Machine) -> list[Finding]:
    """Return the findings of all checks, worst first."""
    findings = [check(machine) for check in CHECKS]
    return [finding for finding in findings if finding is not None]


def _load(machine: Machine) -> Finding | None:
    if machine.load is None or machine.load <= MOST_LOAD * machine.cpus:
        return None
    return Finding(
        "load",
        f"load average {machine.load:.1f} on {machine.cpus} CPUs",
        "other programs take CPU time, and rounds wait for them",
        "end them; `ps -eo pcpu,comm --sort=-pcpu | head` names them",
    )


def _quota(machine: Machine) -> Finding | None:
    quota, threads = cpu_quota(machine.root), machine.environment.get("OMP_NUM_THREADS", "")
    started = int(threads) if threads.isdecimal() else machine.cpus
    if quota is None or started <= quota:
        return None
    stopped = throttled_periods(machine.root)
    so_far = f"; it has stopped this process's group in {stopped} periods so far" if stopped else ""
    return Finding(
        "CPU quota",
        f"the control group allows the time of {quota:g} CPUs, but PyTorch starts {started} threads{so_far}",
        "the kernel stops all threads for the rest of each period (100 ms), and rounds stall",
        f"export OMP_NUM_THREADS={max(1, int(quota))}, or give the container whole cores (a cpuset)",
    )


def _memory(machine: Machine) -> Finding | None:
    lines = (line.split() for line in machine.text("proc/meminfo").splitlines())
    free = next((int(words[1]) * 1024 for words in lines if words[:1] == ["MemAvailable:"]), None)
    if free is None or free >= LEAST_MEMORY:
        return None
    return Finding(
        "memory",
        f"{free / 2**20:.0f} MiB of memory are free",
        "pages are swapped out or dropped during rounds",
        "end programs; `ps -eo rss,comm --sort=-rss | head` names the largest",
    )


def _governor(machine: Machine) -> Finding | None:
    governor = machine.text(f"{_CPU}/cpu0/cpufreq/scaling_governor")
    if governor in ("", "performance"):
        return None
    return Finding(
        "governor",
        f"the frequency governor is {governor}",
        "the clock rises only after some time of work, and falls between rounds",
        "sudo cpupower frequency-set -g performance",
    )


def _turbo(machine: Machine) -> Finding | None:
    if machine.text(f"{_CPU}/intel_pstate/no_turbo") == "0":
        remedy = f"echo 1 | sudo tee /{_CPU}/intel_pstate/no_turbo"
    elif machine.text(f"{_CPU}/cpufreq/boost") == "1":
        remedy = f"echo 0 | sudo tee /{_CPU}/cpufreq/boost"
    else:
        return None
    return Finding(
        "boost",
        "the CPU raises its clock while it is cool",
        "a case is faster after an idle one than after a busy one",
        remedy,
    )


def _threads_spin(machine: Machine) -> Finding | None:
    if machine.environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return None
    return Finding(
        "spinning threads",
        "OMP_WAIT_POLICY is not PASSIVE",
        "waiting threads spin; beside another busy process a call took thirty times as long; benchmarks and gate set "
        "the variable by themselves",
        "export OMP_WAIT_POLICY=PASSIVE",
    )


def _huge_pages(machine: Machine) -> Finding | None:
    enabled = machine.text("sys/kernel/mm/transparent_hugepage/enabled")
    if not enabled or "[never]" not in enabled:
        return None
    return Finding(
        "huge pages",
        "transparent huge pages are off",
        "the spread between placements in memory is about twice as large",
        "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
    )


def _hyperthreads(machine: Machine) -> Finding | None:
    if machine.text(f"{_CPU}/smt/active") != "1":
        return None
    return Finding(
        "hyperthreads",
        "two hardware threads share a core",
        "two threads of a case may share a core in one run but not in the next",
        f"echo off | sudo tee /{_CPU}/smt/control",
    )


def _hypervisor(machine: Machine) -> Finding | None:
    flags = (line for line in machine.text("proc/cpuinfo").splitlines() if line.startswith("flags"))
    if "hypervisor" not in next(flags, "").split():
        return None
    return Finding(
        "virtual machine",
        "this is a virtual machine",
        "other virtual machines, invisible from here, take time, memory bandwidth and cache",
        "compare in pairs with `cnnperf gate`, never seconds of two runs",
    )


def _gpu_processes(machine: Machine) -> Finding | None:
    rows = machine.gpus("--query-compute-apps=pid,process_name") or []
    names = {row[0]: Path(row[1]).name for row in rows if len(row) > 1}
    if not names:
        return None
    examples = ", ".join(f"{name} ({pid})" for pid, name in list(names.items())[:MOST_NAMED])
    more = ", ..." if len(names) > MOST_NAMED else ""
    return Finding(
        "GPU processes",
        f"{len(names)} processes compute on the GPUs: {examples}{more}",
        "they take time, memory bandwidth and cache of the GPU",
        "end them, or choose another GPU with CUDA_VISIBLE_DEVICES",
    )


def _gpu_clocks(machine: Machine) -> Finding | None:
    rows = machine.gpus("--query-gpu=index,clocks_throttle_reasons.active") or []
    slowed = [row[0] for row in rows if lowers_clocks(row[-1])]
    if not slowed:
        return None
    return Finding(
        "GPU clocks",
        f"the clocks of GPU {', '.join(slowed)} are lowered",
        "heat or a power limit slows the GPU, increasingly during a run",
        "nvidia-smi -q -d PERFORMANCE names the reason; `sudo nvidia-smi --lock-gpu-clocks=MHZ` sets a steady clock",
    )


def _gpu_persistence(machine: Machine) -> Finding | None:
    rows = machine.gpus("--query-gpu=index,persistence_mode") or []
    without = [row[0] for row in rows if row[-1] == "Disabled"]
    if not without:
        return None
    return Finding(
        "GPU persistence",
        f"persistence mode is off on GPU {', '.join(without)}",
        "the driver is reloaded for each program, and clocks begin low",
        "sudo nvidia-smi -pm 1",
    )


CHECKS: tuple[Callable[[Machine], Finding | None], ...] = (
    _load,
    _quota,
    _memory,
    _governor,
    _turbo,
    _threads_spin,
    _huge_pages,
    _hyperthreads,
    _hypervisor,
    _gpu_processes,
    _gpu_clocks,
    _gpu_persistence,
)
