"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no more


def keep_freed_memory(limit: int = 512 << 20) -> bool:
    """Let this process keep up to ``limit`` bytes of freed memory for its next tensors (glibc only).

    By default glibc returns every freed block of some MiB to the kernel, which must clear it page by page when the
    next tensor of the same size is made: element-wise operations on the CPU then take several times as long.

    Returns:
        whether the C library took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    return bool(libc.mallopt(_TRIM_THRESHOLD, limit)) and bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
