"""Freed memory that is kept for the next step, while a model trains on a CPU.

glibc hands memory at the end of its heap back to the system as soon as some of it is free, and maps
large pieces one by one; a training step frees nearly all that it took, so the next one waits for
the system to map and zero every page again. With Engram tables, whose gradients are large, that is
a tenth of a step (benchmarks/README.md). Kept, it lies about in pieces, so that the peak is a
little higher. Does nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # names of mallopt(3)
_AFTER = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65_536}
"""glibc's own for a process that has handled large pieces: bytes, bytes, pieces."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Nothing freed goes back to the system inside; all of it does at the end."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for parameter, value in _AFTER.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
