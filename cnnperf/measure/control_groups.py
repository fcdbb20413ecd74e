"""Control groups of this process (containers, batch systems, systemd), and the CPU time that they allow.

A quota leaves all cores visible: a process with a thread on each uses its time up early in each period, and the kernel
stops all threads until the next one.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (`cpu.max`, `cpu.stat`), and for version 1
https://docs.kernel.org/scheduler/sched-bwc.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNT = "sys/fs/cgroup"


def control_groups(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folder of each control group of this process with a controller, innermost first, and its version.

    Args:
        root: Root of the file system.
        controller: `cpu` or `memory`.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / MOUNT / controllers
        if controllers and not mount.is_dir():  # several controllers may be mounted under the name of each
            mount = root / MOUNT / controller
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield folder, 1 if controllers else 2


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the number of CPUs whose time the control groups allow; None without a limit."""
    quotas = [quota for folder, version in control_groups(root, "cpu") for quota in _quota(folder, version)]
    return min(quotas, default=None)


def throttled_periods(root: Path = Path("/")) -> int | None:
    """Return the number of periods in which the kernel stopped this process's groups; None if it does not count them.

    Of nested groups it is the largest number.
    """
    counts = []
    for folder, _ in control_groups(root, "cpu"):
        words = (line.split() for line in _text(folder / "cpu.stat").splitlines())
        counts += [int(pair[1]) for pair in words if pair[:1] == ["nr_throttled"] and pair[1].isdecimal()]
    return max(counts, default=None)


def _quota(folder: Path, version: int) -> Iterator[float]:
    if version == 1:
        words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    else:
        words = _text(folder / "cpu.max").split()
    if len(words) == len(("quota", "period")) and all(word.isdecimal() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])  # "max" and -1 are no limits


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
