"""Queries of nvidia-smi, without loading PyTorch."""

from __future__ import annotations

import shutil
import subprocess

TIMEOUT = 20  # seconds

POWER_CAP = "power cap"
SLOWDOWNS = {
    0x4: POWER_CAP,
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Reason for lowered clocks by bit.

An idle device (0x1), clocks set by users (0x2, 0x100) and clocks synchronized within a group of devices (0x10) are left
out, because they do not disturb a run. A power cap is usual with large matrix products.
"""


def ask(*query: str) -> list[list[str]] | None:
    """Query nvidia-smi and return the fields of each line; None if it is missing, fails or takes over 20 s."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, *query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)  # noqa: S603
    except subprocess.TimeoutExpired:
        return None
    if answer.returncode != 0:
        return None
    return [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]


def slowdowns_of(bits: int) -> tuple[str, ...]:
    """Return the reasons for lowered clocks in a bit mask of NVML."""
    return tuple(reason for bit, reason in SLOWDOWNS.items() if bits & bit)


def lowers_clocks(mask: object) -> bool:
    """Return whether a hexadecimal mask from nvidia-smi has a reason of `SLOWDOWNS`."""
    try:
        return bool(slowdowns_of(int(str(mask), 16)))
    except ValueError:  # nvidia-smi writes [N/A] for GPUs without the field
        return False
