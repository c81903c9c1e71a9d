"""The amount of freed memory that glibc's malloc keeps; set before torch computes."""

import ctypes
import os
import sys
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_MMAP_FROM: Final = 32 * 2**20  # the maximum of glibc
_KEPT: Final = 256 * 2**20


def keep_freed_memory() -> None:
    """Make malloc keep the memory that a step frees, unless environment variables tune malloc.

    By default, depending on earlier allocations, it returns a tensor's memory to the system in
    each step and requests it again in the next one: up to 3,600 page faults in a step of the tiny
    model on a CPU, which takes 18 ms instead of 11. Does nothing with another C library.
    """
    if sys.platform != "linux" or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
