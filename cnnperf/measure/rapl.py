"""Energy of the CPU from its RAPL counters on Linux.

Source: https://docs.kernel.org/power/powercap/powercap.html. Since CVE-2020-8694 only root can read them on most
systems.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path("/sys/class/powercap")


@dataclass
class _Domain:
    """Counter of one package in uJ, which wraps to 0 after `span`."""

    path: Path
    span: int
    last: int
    total: int = 0

    def read(self) -> int:
        now = int(self.path.read_text(encoding="ascii"))
        self.total += (now - self.last) % (self.span + 1)
        self.last = now
        return self.total


class Rapl:
    """Energy meter of all CPU packages of the machine, which includes all processes."""

    def __init__(self, domains: list[_Domain]) -> None:
        """Use these counters; see `find`."""
        self._domains = domains

    @classmethod
    def find(cls, root: Path = ROOT) -> Self | None:
        """Return the meter of this machine; None if it has no counters or they cannot be read."""
        try:
            domains = [
                _Domain(zone / "energy_uj", int(_text(zone / "max_energy_range_uj")), int(_text(zone / "energy_uj")))
                for zone in sorted(root.glob("intel-rapl:*"))
                if _text(zone / "name").startswith("package")
            ]
        except (OSError, ValueError):  # not root, or no such counters
            return None
        return cls(domains) if domains else None

    def joules(self) -> float:
        """Return the energy in J since `find`; call it more often than a counter wraps (minutes)."""
        return sum(domain.read() for domain in self._domains) / 1e6


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
