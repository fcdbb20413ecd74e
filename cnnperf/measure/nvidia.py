"""What nvidia-smi tells of the GPUs, without loading PyTorch."""

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
"""Bit to the reason for lowered clocks.

Left out are an idle device (0x1), clocks that were set by somebody (0x2, 0x100) and those of a group of devices (0x10),
which are no trouble of this run. A power cap is usual under large products.
"""


def ask(*query: str) -> list[list[str]] | None:
    """Return the fields of each line of an answer, or None where there is no nvidia-smi or it does not answer."""
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
    """Return the reasons for lowered clocks that a mask of NVML names."""
    return tuple(reason for bit, reason in SLOWDOWNS.items() if bits & bit)


def lowers_clocks(mask: object) -> bool:
    """Tell whether a mask of reasons, as nvidia-smi writes it, names one of `SLOWDOWNS`."""
    try:
        return bool(slowdowns_of(int(str(mask), 16)))
    except ValueError:  # nvidia-smi writes [N/A] where a GPU does not tell
        return False
