"""The memory policy of the CPU: freed memory is retained by the process, as CUDA's caching allocator does.

glibc maps every block over 32 MiB afresh and hands it back when it is freed, so that each call pays for page faults
that a device with a caching allocator never pays. Retained memory makes the two comparable.
"""

from __future__ import annotations

import ctypes
import platform

POLICIES = ("retain", "system")
# Parameters of mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def apply_policy(policy: str) -> str:
    """Apply a memory policy to this process; it cannot be taken back.

    Args:
        policy: `retain` or `system`.

    Returns:
        The policy in force: `retain`, `system`, or `unavailable` where the C library has no such control.
    """
    if policy == "system":
        return "system"
    if platform.libc_ver()[0] != "glibc":
        return "unavailable"
    libc = ctypes.CDLL(None)
    done = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)
    return "retain" if done else "unavailable"
