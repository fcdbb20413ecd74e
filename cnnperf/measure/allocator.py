"""Memory policy of the CPU: the process retains freed memory, as CUDA's caching allocator does.

glibc maps each block over 32 MiB anew and unmaps it when it is freed, so that each call pays for page faults. With a
caching allocator, as on CUDA, it pays none. Retained memory makes the two devices comparable.
"""

from __future__ import annotations

import ctypes
import platform

POLICIES = ("retain", "system")
# Parameters of mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def apply_policy(policy: str) -> str:
    """Apply a memory policy to this process, irrevocably.

    Args:
        policy: `retain` or `system`.

    Returns:
        The policy in force: `retain`, `system`, or `unavailable` if the C library has no such control.
    """
    if policy == "system":
        return "system"
    if platform.libc_ver()[0] != "glibc":
        return "unavailable"
    libc = ctypes.CDLL(None)
    done = libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1)
    return "retain" if done else "unavailable"
