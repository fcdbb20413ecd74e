"""What on this machine disturbs measurements, each with the command that mends it. Nothing is changed here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnperf.measure.nvidia import ask, lowers_clocks
from cnnperf.records.finding import Finding

MOST_LOAD = 0.5  # runnable processes a CPU
LEAST_MEMORY = 2 * 2**30  # bytes
_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Machine:
    """The sources that the checks read.

    Attributes:
        root: Of the file system.
        environment: Variables.
        cpus: That this process may use.
        load: Load average of a minute, or None where it is not told.
        gpus: Answers a query of nvidia-smi; None where nobody answers.
    """

    root: Path
    environment: Mapping[str, str]
    cpus: int
    load: float | None
    gpus: Callable[[str], list[list[str]] | None] = ask

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(Path("/"), os.environ, cpus, os.getloadavg()[0] if hasattr(os, "getloadavg") else None)

    def text(self, path: str) -> str:
        """Return the text of a file, empty where there is none to read."""
        try:
            return (self.root / path).read_text(encoding="utf-8").strip()
        except OSError:
            return ""


def examine(machine: Machine) -> list[Finding]:
    """Return what disturbs measurements, the worst first."""
    found = [check(machine) for check in CHECKS]
    return [finding for finding in found if finding is not None]


def _load(machine: Machine) -> Finding | None:
    if machine.load is None or machine.load <= MOST_LOAD * machine.cpus:
        return None
    return Finding(
        "load",
        f"load average {machine.load:.1f} on {machine.cpus} CPUs",
        "other programs take CPU time, and rounds wait for them",
        "end them; `ps -eo pcpu,comm --sort=-pcpu | head` names them",
    )


def _memory(machine: Machine) -> Finding | None:
    lines = (line.split() for line in machine.text("proc/meminfo").splitlines())
    free = next((int(words[1]) * 1024 for words in lines if words[:1] == ["MemAvailable:"]), None)
    if free is None or free >= LEAST_MEMORY:
        return None
    return Finding(
        "memory",
        f"{free / 2**20:.0f} MiB of memory are free",
        "pages are swapped or dropped in the middle of rounds",
        "end programs; `ps -eo rss,comm --sort=-rss | head` names the largest",
    )


def _governor(machine: Machine) -> Finding | None:
    governor = machine.text(f"{_CPU}/cpu0/cpufreq/scaling_governor")
    if governor in ("", "performance"):
        return None
    return Finding(
        "governor",
        f"the frequency governor is {governor}",
        "the clock rises only some time after work begins, and falls between rounds",
        "sudo cpupower frequency-set -g performance",
    )


def _turbo(machine: Machine) -> Finding | None:
    intel, others = machine.text(f"{_CPU}/intel_pstate/no_turbo"), machine.text(f"{_CPU}/cpufreq/boost")
    commands = {
        "intel_pstate/no_turbo": ("echo 1", intel == "0"),
        "cpufreq/boost": ("echo 0", others == "1"),
    }
    for name, (command, on) in commands.items():
        if on:
            return Finding(
                "boost",
                "the CPU raises its clock as long as it is cool",
                "a case is faster after an idle one than after a busy one",
                f"{command} | sudo tee /{_CPU}/{name}",
            )
    return None


def _threads_spin(machine: Machine) -> Finding | None:
    if machine.environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        return None
    return Finding(
        "spinning threads",
        "OMP_WAIT_POLICY is not PASSIVE",
        "waiting threads spin, and beside a busy neighbour a call took thirty times as long; benchmarks and gate set "
        "it by themselves",
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
        "two threads of one case may share a core in one run and not in the next",
        f"echo off | sudo tee /{_CPU}/smt/control",
    )


def _hypervisor(machine: Machine) -> Finding | None:
    flags = (line for line in machine.text("proc/cpuinfo").splitlines() if line.startswith("flags"))
    if "hypervisor" not in next(flags, "").split():
        return None
    return Finding(
        "virtual machine",
        "this is a virtual machine",
        "neighbours that cannot be seen from here take time, memory bandwidth and cache",
        "compare in pairs with `cnnperf gate`, never seconds of two runs",
    )


def _gpu_processes(machine: Machine) -> Finding | None:
    rows = machine.gpus("--query-compute-apps=pid,process_name") or []
    names = {row[0]: Path(row[1]).name for row in rows if len(row) > 1}
    if not names:
        return None
    told = ", ".join(f"{name} ({pid})" for pid, name in list(names.items())[:3])
    return Finding(
        "GPU processes",
        f"{len(names)} processes compute on the GPUs: {told}{', ...' if len(names) > 3 else ''}",  # noqa: PLR2004 - as many as are named
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
        "heat or a power limit slows it, and more so the longer a run lasts",
        "nvidia-smi -q -d PERFORMANCE names the reason; `sudo nvidia-smi --lock-gpu-clocks=MHZ` holds what it can keep",
    )


def _gpu_persistence(machine: Machine) -> Finding | None:
    rows = machine.gpus("--query-gpu=index,persistence_mode") or []
    without = [row[0] for row in rows if row[-1] == "Disabled"]
    if not without:
        return None
    return Finding(
        "GPU persistence",
        f"persistence mode is off on GPU {', '.join(without)}",
        "the driver is loaded anew for each program, and its clocks begin low",
        "sudo nvidia-smi -pm 1",
    )


CHECKS: tuple[Callable[[Machine], Finding | None], ...] = (
    _load,
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
