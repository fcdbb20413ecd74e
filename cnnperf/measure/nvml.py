"""State of a GPU while it works, from NVIDIA's management library (the package `nvidia-ml-py`).

The GPU is found by its UUID, because CUDA and NVML may number devices differently, for instance with
CUDA_VISIBLE_DEVICES. Source of all names: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import torch

from cnnperf.measure.nvidia import slowdowns_of


@dataclass(frozen=True)
class GpuState:
    """State of a GPU at one moment.

    Attributes:
        sm_clock: Clock of the multiprocessors in Hz.
        slowdowns: Reasons for lowered clocks, values of `SLOWDOWNS`.
    """

    sm_clock: float
    slowdowns: tuple[str, ...]


class Gpu:
    """GPU of a CUDA device in NVML."""

    def __init__(self, library: Any, handle: Any) -> None:
        """Wrap the module of NVML and its handle of the GPU."""
        self._library, self._handle = library, handle

    @classmethod
    def of(cls, device: torch.device) -> Self | None:
        """Return the GPU of a CUDA device; None if `nvidia-ml-py` is not installed or does not find it."""
        if find_spec("pynvml") is None:
            return None
        library = import_module("pynvml")
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        for prefix in ("GPU-", "MIG-"):
            try:
                library.nvmlInit()
                return cls(library, library.nvmlDeviceGetHandleByUUID(f"{prefix}{uuid}"))
            except library.NVMLError:
                continue
        return None

    def joules(self) -> float | None:
        """Return the energy in J since the driver was loaded; None if the GPU does not count it."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def state(self) -> GpuState | None:
        """Return the current clock and slowdowns; None if the GPU does not report its clock."""
        megahertz = self._ask("nvmlDeviceGetClockInfo", self._library.NVML_CLOCK_SM)
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if megahertz is None else GpuState(megahertz * 1e6, slowdowns_of(reasons or 0))

    def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._library, name)(self._handle, *arguments)
        except self._library.NVMLError:  # some GPUs, and all virtual ones, lack some readings
            return None
