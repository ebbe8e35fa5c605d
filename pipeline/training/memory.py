"""Keep freed memory in the process: a training step frees and takes the same big blocks again and again.

glibc gives such blocks back to the system at once, and each page taken back costs a fault: up to half of the time of a
small network's training on a CPU.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the rest of the process; returns whether there is a glibc that was told."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, -1))
