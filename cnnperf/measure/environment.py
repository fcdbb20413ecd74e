"""Environment record: a flat record of everything that affects how fast the same code runs."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import torch

from cnnperf.measure.control_groups import cpu_quota
from cnnperf.measure.nvidia import ask

Record = dict[str, str | int | float | bool | None]

VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "GLIBC_TUNABLES",
    "THP_MEM_ALLOC_ENABLE",
    "LD_PRELOAD",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "CUDA_VISIBLE_DEVICES",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
)
TOOLS = 6  # numbers of tools of sys.monitoring
# Fields of nvidia-smi --query-gpu by their names in the record.
GPU_FIELDS = {
    "gpu_driver": "driver_version",
    "gpu_clock_sm_mhz": "clocks.sm",
    "gpu_clock_memory_mhz": "clocks.mem",
    "gpu_power_w": "power.draw",
    "gpu_power_limit_w": "power.limit",
    "gpu_temperature_c": "temperature.gpu",
    "gpu_utilization_percent": "utilization.gpu",
}


def read_environment(*, cpu_allocator: str, input_kind: str) -> Record:
    """Read the environment of this process.

    Args:
        cpu_allocator: Memory policy in force, from `apply_policy`.
        input_kind: Kind of the input images, `synthetic` or `photos`.

    Returns:
        Plain values by name; None for a value that cannot be read.
    """
    record: Record = {
        "cpu_model": cpu_model(),
        "cpu_count": os.cpu_count(),
        "affinity": _affinity(),
        "cpu_quota": cpu_quota(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "load_average": load_average(),
        "cpu_frequency_mhz": _cpu_frequency(),
        "cpu_governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "huge_pages": _first_line("/sys/kernel/mm/transparent_hugepage/enabled"),
        "cpu_allocator": cpu_allocator,
        "input": input_kind,
        "system": platform.platform(),
        "python": platform.python_version(),
        "tracer": tracer(),
        "torch": str(torch.__version__),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    return record | {name: os.environ.get(name) for name in VARIABLES} | _cuda_record()


def tracer() -> str | None:
    """Return what traces the Python code of this process, such as coverage or a debugger; None for nothing."""
    trace = sys.gettrace()
    if trace is not None:
        return type(trace).__module__.partition(".")[0] if not hasattr(trace, "__module__") else str(trace.__module__)
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = [monitoring.get_tool(number) for number in range(TOOLS)] if monitoring else []
    return next((str(tool) for tool in tools if tool), None)


def cpu_model() -> str:
    """Return the name of the CPU as the system reports it."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load_average() -> float | None:
    """Return the load average over the last minute, in runnable processes; None if the system does not report it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def gpu_state() -> Record:
    """Return driver, clocks, power and temperature of PyTorch's first GPU while idle; empty without nvidia-smi.

    Readings under load are metrics of each case.
    """
    rows = _nvidia_smi("--query-gpu=" + ",".join(GPU_FIELDS.values()), f"--id=GPU-{_first_gpu()}")
    return dict(zip(GPU_FIELDS, rows[0], strict=False)) if rows else {}


def other_gpu_processes() -> int | None:
    """Return the number of other processes that compute on the GPUs; None if nvidia-smi does not answer."""
    rows = _nvidia_smi("--query-compute-apps=pid")
    return None if rows is None else len({row[0] for row in rows} - {str(os.getpid()), ""})


def _cuda_record() -> Record:
    if not torch.cuda.is_available():
        return {"gpu_model": None, "cuda": torch.version.cuda, "cudnn": None}
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu_model": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "gpu_multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gpu_other_processes": other_gpu_processes(),
    } | gpu_state()


def _nvidia_smi(*query: str) -> list[list[str]] | None:
    return ask(*query) if torch.cuda.is_available() else None


def _first_gpu() -> str:
    """Return the UUID of PyTorch's GPU 0, whose index in nvidia-smi may differ."""
    return str(torch.cuda.get_device_properties(0).uuid)


def _affinity() -> str | None:
    if not hasattr(os, "sched_getaffinity"):
        return None
    return ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))


def _cpu_frequency() -> float | None:
    lines = [line.partition(":")[2] for line in _lines("/proc/cpuinfo") if line.startswith("cpu MHz")]
    return float(lines[0]) if lines else None


def _first_line(path: str) -> str | None:
    return next(iter(_lines(path)), None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or not in this kernel
        return []
