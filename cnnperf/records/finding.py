"""The finding: why a number, or a machine, is to be doubted. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One reason to distrust a number: what was seen, what it means, what to do."""

    kind: str
    seen: str
    meaning: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """Return the plain dictionary that goes into the run file."""
        return asdict(self)
