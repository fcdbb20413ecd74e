"""Predict whether a case fits in RAM: exceeding it gets the process killed, so that it cannot be tried.

What a process may come to hold is what it holds now and what is available, to the machine and within its control
groups. What a case will need follows from what the one before it needed: bytes of live tensors are counted on the meta
device without computing, and all that measuring holds beside them (the check in float64 most of all) grows with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnperf.measure.work import count_work
from cnnperf.records.case import Case
from cnnperf.units import format_quantity

MARGIN = 0.1
"""Share of the memory that is left alone."""

STEEPEST = 32.0
"""Bytes that measuring takes for each further byte of live tensors at most: 22 were seen (LeNet-5, training)."""

CODE = 400 * 2**20
"""Bytes that the first case of all takes whatever its size, for the code that it loads: 380 MiB were seen."""

SMALLEST = 8.0
"""Bytes for each byte of live tensors at batch 1, most of which are parameters."""

LUMPS = 1.25
"""How much more than in proportion memory may grow from case to case: a heap grows in lumps."""

_UNLIMITED = 2**60  # bytes; control groups of the first version write no limit as a number near 2^63


@dataclass(frozen=True)
class Process:
    """Memory of this process, in bytes.

    Attributes:
        holds: Now.
        held: At most so far.
        may_hold: In all, with what is available.
    """

    holds: float
    held: float
    may_hold: float


def process_memory(root: Path = Path("/")) -> Process | None:
    """Return what this process holds and may come to hold, or None where the system does not tell as Linux does."""
    status, machine = _numbers(root / "proc/self/status"), _numbers(root / "proc/meminfo")
    if not {"VmRSS", "VmHWM"} <= status.keys() or "MemAvailable" not in machine:
        return None
    available = min(1024 * machine["MemAvailable"], *_left_in_groups(root), _UNLIMITED)
    limits = _left_in_limits(status) if root == Path("/") else ()
    available = min(available, *limits, _UNLIMITED)
    return Process(1024 * status["VmRSS"], 1024 * status["VmHWM"], 1024 * status["VmRSS"] + available)


class Forecast:
    """Foresee what the cases of one sweep need on the CPU.

    What the process held at most is its own record, so it must not have held more before than it does now.
    """

    def __init__(self, look: Callable[[], Process | None] = process_memory) -> None:
        """Look at the memory before the first case.

        Args:
            look: Returns what the process has of the memory.
        """
        self._look = look
        self._start = look()
        self._held = 0.0 if self._start is None else self._start.held
        self._grown: dict[Case, tuple[Case, float]] = {}  # the last case that made the process hold more, and how much
        self._call: dict[Case, float] = {}

    @property
    def blind(self) -> bool:
        """Tell whether the system says nothing of its memory, so that nothing can be foreseen."""
        return self._start is None

    def learn(self, case: Case, peak: float) -> None:
        """Note that a case was measured, and the bytes that its call held at the peak."""
        live, now = count_work(case).live, self._look()
        self._call[_kind(case)] = max(peak / live, 1.0)
        if now is not None and self._start is not None and now.held > self._held:
            self._held = now.held
            self._grown[_kind(case)] = case, now.held - self._start.holds

    def refusal(self, case: Case) -> str:
        """Return why a case must not be measured; empty where it may be."""
        now = self._look()
        if now is None or self._start is None:
            return ""
        need = self._need(case)
        there = self._allowed(now)
        if need <= there or self._start.holds + need <= now.held:
            return ""
        return (
            f"not tried, memory would end: measuring it would take about {format_quantity(need, 'B')}, there are "
            f"{format_quantity(there, 'B')}, and {MARGIN:.0%} more that are left alone"
        )

    def fits(self, case: Case) -> bool:
        """Tell whether the counted bytes of one call, without any check, fit into the memory less its margin."""
        return self.holds(count_work(case).live * self._call.get(_kind(case), 1.0))

    def holds(self, wanted: float) -> bool:
        """Tell whether nothing is known that would speak against holding so many bytes."""
        now = self._look()
        return now is None or wanted <= self._allowed(now)

    def _need(self, case: Case) -> float:
        """Go on from the last case of the kind that made the process hold more."""
        live = count_work(case).live
        if _kind(case) not in self._grown:
            smallest = count_work(case.replace(batch=1)).live
            return CODE + SMALLEST * smallest + STEEPEST * (live - smallest)
        last, took = self._grown[_kind(case)]
        before = count_work(last).live
        larger = max(live / before, _pixels(case) / _pixels(last))
        return min(LUMPS * took * larger, took + STEEPEST * max(0, live - before))

    def _allowed(self, now: Process) -> float:
        held_before = 0.0 if self._start is None else self._start.holds
        return (1 - MARGIN) * (now.may_hold - held_before)


def _kind(case: Case) -> Case:
    """Return what cases share whose bytes grow together; the engines do, because both are checked alike."""
    return case.replace(engine="eager", batch=1, image_size=1, width=0, threads=0)


def _pixels(case: Case) -> int:
    return case.batch * case.image_size**2


def _numbers(path: Path) -> dict[str, float]:
    """Return the lines of a file that are a name and a number."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: float(number) for name, number in re.findall(r"^(\w+):?\s+(\d+)", text, re.MULTILINE)}


def _left_in_limits(status: Mapping[str, float]) -> Iterator[float]:
    """Yield what the limits of this process leave it, as `ulimit -v` and `-d` set them."""
    import resource  # not on Windows, which has no /proc either

    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and name in status:
            yield max(0.0, limit - 1024 * status[name])


def _left_in_groups(root: Path) -> Iterator[float]:
    """Yield what is left in each control group of this process that has a limit, in either version of them."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for controllers, path in (line.split(":", 2)[1:] for line in groups):
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        if controllers in ("", "memory"):
            below = mount / path.lstrip("/")
            for folder in (below, *below.parents):
                if folder.is_relative_to(mount):
                    yield from _left(folder, *VERSIONS[controllers])


VERSIONS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By controllers in the list of a process: files of limit and usage, and the entry for pages that can be dropped."""


def _left(folder: Path, limit: str, usage: str, droppable: str) -> Iterator[float]:
    try:
        most, used = ((folder / name).read_text(encoding="utf-8").strip() for name in (limit, usage))
    except OSError:
        return
    if most.isdecimal() and used.isdecimal() and int(most) < _UNLIMITED:
        yield max(0.0, int(most) - int(used) + _numbers(folder / "memory.stat").get(droppable, 0.0))
