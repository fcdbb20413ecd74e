"""The roofline of a run: arithmetic intensity of its cases, and the ceilings of its devices."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnnperf.records.run import CaseRecord, Run
from cnnperf.runs.ratios import value_of

_MATMUL = "matmul_rate_"


@dataclass(frozen=True)
class Ceiling:
    """Ceilings of a device for one precision.

    Attributes:
        device: The device.
        precision: Precision of the matrix product.
        bandwidth: Bandwidth of a copy in B/s.
        rate: Rate of the matrix product in flop/s.
    """

    device: str
    precision: str
    bandwidth: float
    rate: float

    @property
    def knee(self) -> float:
        """Intensity in flop/B at which both ceilings meet."""
        return self.rate / self.bandwidth

    def flop_rate(self, intensity: float) -> float:
        """Return the highest possible flop/s at an intensity in flop/B."""
        return min(self.bandwidth * intensity, self.rate)


def intensity_of(record: CaseRecord) -> float | None:
    """Return the flop for each byte that must move; None where the traffic is unknown."""
    flop, traffic = (value_of(record, metric).value for metric in ("flop", "traffic"))
    return flop / traffic if traffic > 0 else None


def ceilings_of(run: Run) -> list[Ceiling]:
    """Return the ceilings of each device and precision with both a copy and a matrix product."""
    ceilings = []
    for device, rates in run.ceilings.items():
        bandwidth = rates.get("copy_bandwidth", math.nan)
        for name, rate in rates.items():
            if name.startswith(_MATMUL) and _positive(rate) and _positive(bandwidth):
                ceilings.append(Ceiling(device, name.removeprefix(_MATMUL), bandwidth, rate))
    return ceilings


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
