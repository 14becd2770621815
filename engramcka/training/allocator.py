"""Freed memory that is kept for the next step, while a model trains on a CPU.

glibc hands memory at the end of its heap back to the system as soon as some of it is free, and a
training step frees nearly all that it took: the next step then waits for the system to map and zero
every page again. With Engram tables, whose gradients are large, that is a tenth of a step. Does
nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of mallopt(3)
_MOST = 32 << 20  # bytes: the largest that glibc takes for either; beyond, memory is mapped anyway


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Nothing freed goes back to the system inside; all of it does at the end."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _MOST)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_TRIM_THRESHOLD, _MOST)
        libc.malloc_trim(0)
