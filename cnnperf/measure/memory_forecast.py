"""Forecast of whether a case fits in RAM, which cannot be tried, because exceeding it gets the process killed.

The limit of a process is what it holds now, plus what is available on the machine and in its control groups. The need
of a case is extrapolated from an earlier case. Bytes of live tensors are counted on the meta device without computing;
everything else that measuring holds, above all the check in float64, grows with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnperf.measure.control_groups import control_groups
from cnnperf.measure.work import NotCountable, count_work
from cnnperf.records.case import Case
from cnnperf.units import format_quantity

MARGIN = 0.1
"""Share of the memory that is never used."""

STEEPEST = 32.0
"""Most bytes that measuring takes per further byte of live tensors; the largest observed is 22 (LeNet-5, training)."""

CODE = 400 * 2**20
"""Bytes that the first case takes for the code that it loads; the largest observed is 380 MiB."""

SMALLEST = 8.0
"""Bytes per byte of live tensors at batch 1, most of which are parameters."""

LUMPS = 1.25
"""Factor by which memory may grow beyond proportion from case to case, because a heap grows in lumps."""

FEW = 2
"""Batch of which a network is counted that has to compute for it; BatchNorm cannot train with one image."""

_UNLIMITED = 2**60  # bytes; control groups v1 write "no limit" as a number near 2^63


@dataclass(frozen=True)
class Process:
    """Memory of this process, in bytes.

    Attributes:
        holds: Resident bytes now.
        held: Peak of the resident bytes so far.
        may_hold: Limit: resident bytes now plus available bytes.
    """

    holds: float
    held: float
    may_hold: float


def process_memory(root: Path = Path("/")) -> Process | None:
    """Return the memory of this process and its limit; None if the system is not Linux."""
    status, machine = _numbers(root / "proc/self/status"), _numbers(root / "proc/meminfo")
    if not {"VmRSS", "VmHWM"} <= status.keys() or "MemAvailable" not in machine:
        return None
    limits = _left_in_limits(status) if root == Path("/") else ()
    available = min(1024 * machine["MemAvailable"], *_left_in_groups(root), *limits, _UNLIMITED)
    holds = 1024 * status["VmRSS"]
    return Process(holds, 1024 * status["VmHWM"], holds + available)


@dataclass(frozen=True)
class _Growth:
    """Growth of the peak of the process by a case.

    Attributes:
        case: The case.
        size: Bytes that the process held at most, less those before the first case.
        members: Number of cases that were measured side by side.
    """

    case: Case
    size: float
    members: int


class Forecast:
    """Forecast of the CPU memory of the cases of one sweep.

    It reads the peak of the process, which must not exceed what the process holds when the forecast is created.
    """

    def __init__(self, look: Callable[[], Process | None] = process_memory) -> None:
        """Read the memory before the first case.

        Args:
            look: Function that returns the memory of the process.
        """
        self._look = look
        self._start = look()
        self._held = 0.0 if self._start is None else self._start.held
        self._grown: dict[Case, _Growth] = {}  # by kind
        self._call: dict[Case, float] = {}

    @property
    def blind(self) -> bool:
        """Whether the system does not report its memory, so that nothing can be forecast."""
        return self._start is None

    def learn(self, case: Case, peak: float, members: int = 1) -> None:
        """Record a measured case.

        Args:
            case: The case.
            peak: Peak bytes of its call.
            members: Number of cases that were measured side by side with it, itself included.
        """
        live, now = _live(case), self._look()
        self._call[_kind(case)] = max(peak / live, 1.0)
        if now is not None and self._start is not None and now.held > self._held:
            self._held = now.held
            self._grown[_kind(case)] = _Growth(case, now.held - self._start.holds, members)

    def refusal(self, case: Case, members: int = 1) -> str:
        """Return the reason not to measure a case; empty if it fits.

        Args:
            case: The case.
            members: Number of cases, equal but for their engine, that would be measured side by side.
        """
        now = self._look()
        if now is None or self._start is None:
            return ""
        need = self._need(case, members)
        allowed = self._allowed(now)
        if need <= allowed or self._start.holds + need <= now.held:
            return ""
        return (
            f"not tried, it would run out of memory: it needs about {format_quantity(need, 'B')}, but only "
            f"{format_quantity(allowed, 'B')} may be used; {MARGIN:.0%} of the memory is kept free"
        )

    def fits(self, case: Case) -> bool:
        """Return whether the counted bytes of one call, without checks, fit in memory less the margin."""
        return self.holds(_live(case) * self._call.get(_kind(case), 1.0))

    def holds(self, size: float) -> bool:
        """Return whether `size` bytes fit in memory less the margin; True if the system does not report its memory."""
        now = self._look()
        return now is None or size <= self._allowed(now)

    def _need(self, case: Case, members: int) -> float:
        """Extrapolate from the last case of the same kind that raised the peak.

        What several cases take side by side is at most the sum of what each takes alone, and at least what one takes.
        """
        live = _live(case)
        if _kind(case) not in self._grown:
            smallest = _live(case.replace(batch=1))
            return CODE + members * (SMALLEST * smallest + STEEPEST * (live - smallest))
        last = self._grown[_kind(case)]
        growth = last.size * max(1.0, members / last.members)
        before = _live(last.case)
        larger = max(live / before, _pixels(case) / _pixels(last.case))
        return min(LUMPS * growth * larger, growth + members * STEEPEST * max(0, live - before))

    def _allowed(self, now: Process) -> float:
        held_before = 0.0 if self._start is None else self._start.holds
        return (1 - MARGIN) * (now.may_hold - held_before)


def _live(case: Case) -> float:
    """Return the bytes of live tensors of a call.

    Those of a network that cannot be counted on the meta device are extrapolated from a batch of two images, which is
    computed. The proportion is an upper bound, because parameters do not grow with the batch.
    """
    try:
        return count_work(case).live
    except NotCountable:
        try:
            return count_work(case.replace(batch=FEW), computing=True).live * max(1.0, case.batch / FEW)
        except NotCountable:
            return max(1.0, 4.0 * 3 * _pixels(case))  # its images alone


def _kind(case: Case) -> Case:
    """Return the key of cases whose bytes grow together, all engines included, because they are checked alike."""
    return case.replace(engine="eager", batch=1, image_size=1, width=0, threads=0)


def _pixels(case: Case) -> int:
    return case.batch * case.image_size**2


def _numbers(path: Path) -> dict[str, float]:
    """Return the entries of a file of lines with a name and a number; empty if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: float(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)", text, re.MULTILINE)}


def _left_in_limits(status: Mapping[str, float]) -> Iterator[float]:
    """Yield the bytes that are left of each resource limit of this process, as `ulimit -v` and `-d` set them."""
    import resource  # not on Windows, which has no /proc either

    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and name in status:
            yield max(0.0, limit - 1024 * status[name])


def _left_in_groups(root: Path) -> Iterator[float]:
    """Yield the bytes that are left in each limited control group of this process, v1 or v2."""
    for folder, version in control_groups(root, "memory"):
        yield from _left(folder, *VERSIONS[version])


VERSIONS = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Files of limit and usage, and the entry of droppable pages, by the version of control groups."""


def _left(folder: Path, limit: str, usage: str, droppable: str) -> Iterator[float]:
    try:
        most = (folder / limit).read_text(encoding="utf-8").strip()
        used = (folder / usage).read_text(encoding="utf-8").strip()
    except OSError:
        return
    if most.isdecimal() and used.isdecimal() and int(most) < _UNLIMITED:
        yield max(0.0, int(most) - int(used) + _numbers(folder / "memory.stat").get(droppable, 0.0))
