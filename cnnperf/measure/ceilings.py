"""Ceilings: copy bandwidth and matrix-product rate of a device, measured once per run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from cnnperf.measure.clock import Clock, clock_for
from cnnperf.measure.precisions import DTYPES, PRECISIONS, allowed_tf32
from cnnperf.measure.work import Work

COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 31}
MATRIX_SIZE = {"cpu": 1024, "cuda": 8192}
REPEATS = 7
OPERANDS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}


def measure_ceilings(device: torch.device) -> dict[str, float]:
    """Measure the copy bandwidth and the matrix-product rate at each precision, each as the best of seven calls.

    The operands are random numbers, because some devices are faster on zeros than on data.

    Returns:
        `copy_bandwidth` in B/s, counting bytes read and bytes written, and `matmul_rate_<precision>` in flop/s.
    """
    clock = clock_for(device)
    ceilings = {"copy_bandwidth": _copy_bandwidth(device, clock)}
    for precision in OPERANDS[device.type]:
        ceilings[f"matmul_rate_{precision}"] = _matmul_rate(device, clock, precision)
    return ceilings


def ceiling_seconds(work: Work, ceilings: Mapping[str, float], precision: str) -> float:
    """Return the least seconds that the work takes on the device.

    The bound is the larger of flop over the matrix-product rate and traffic over the copy bandwidth: the roofline of
    Williams, Waterman and Patterson (CACM 52(4), 2009, https://doi.org/10.1145/1498765.1498785), measured. A device
    without a ceiling for the operands, such as fp16 on a CPU, uses that of fp32.
    """
    operands = PRECISIONS[precision].operands
    rate = ceilings.get(f"matmul_rate_{operands}", ceilings["matmul_rate_fp32"])
    return max(work.flop / rate, work.traffic / ceilings["copy_bandwidth"])


def _copy_bandwidth(device: torch.device, clock: Clock) -> float:
    size = COPY_BYTES[device.type]
    source = torch.empty(size // 4, device=device).normal_()
    target = torch.empty_like(source)
    return 2 * size / _best(clock, lambda: target.copy_(source))


def _matmul_rate(device: torch.device, clock: Clock, precision: str) -> float:
    size = MATRIX_SIZE[device.type]
    left = torch.randn(size, size, device=device).to(DTYPES[precision])
    right = torch.randn(size, size, device=device).to(DTYPES[precision])
    with allowed_tf32(precision):
        return 2 * size**3 / _best(clock, lambda: left @ right)


def _best(clock: Clock, call: Callable[[], object]) -> float:
    def run() -> None:
        call()

    run()
    return min(clock.read(run).wall for _ in range(REPEATS))
