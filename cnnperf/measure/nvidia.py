"""What nvidia-smi tells of the GPUs, without loading PyTorch."""

from __future__ import annotations

import shutil
import subprocess

TIMEOUT = 20  # seconds
IDLE_THROTTLE_REASONS = {"0x0000000000000000", "0x0000000000000001"}  # none, and "the GPU is idle"


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


def lowers_clocks(reasons: object) -> bool:
    """Tell whether a mask of throttle reasons names one other than idleness."""
    return isinstance(reasons, str) and reasons.startswith("0x") and reasons not in IDLE_THROTTLE_REASONS
