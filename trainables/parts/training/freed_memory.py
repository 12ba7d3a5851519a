"""Keep the memory that a training step frees for the next one."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_NEVER = -1
_LARGEST, _LARGEST_BEFORE_2_35 = 2**30, 2**25
"""Bytes of the largest blocks that glibc can take from memory it has kept."""


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, where its C library is glibc.

    Otherwise large blocks go back to the system, and each step waits for the same pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
    if not mallopt(_M_MMAP_THRESHOLD, _LARGEST):
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BEFORE_2_35)
