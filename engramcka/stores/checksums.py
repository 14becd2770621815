"""crc32c of bytes, without Python's lock, so that several threads can check at once.

google_crc32c lets go of the lock for large `bytes` alone, and what is read here goes into arrays:
so the C library beneath it is called, and google_crc32c where that is not found. Knows no files.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import google_crc32c
import numpy.typing as npt

_UNLOCKED_FROM = 1 << 16  # bytes; below, the call costs as much as the checksum
_CHECK = (b"123456789", 0xE3069283)  # RFC 3720, appendix B.4


def checksum(data: npt.NDArray[Any]) -> int:
    """crc32c of the bytes of a C-contiguous array."""
    function = _unlocked() if data.nbytes >= _UNLOCKED_FROM else None
    if function is None:
        found: int = google_crc32c.value(data)
        return found
    assert data.flags.c_contiguous
    return function(0, data.ctypes.data, data.nbytes)


@cache
def _unlocked() -> Callable[[int, Any, int], int] | None:
    """crc32c_extend(checksum so far, address, bytes) of the C library, if it can be called."""
    try:
        from google_crc32c import _crc32c

        function = ctypes.CDLL(_crc32c.__file__).crc32c_extend  # of what it is linked to
    except (ImportError, OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t)
    function.restype = ctypes.c_uint32
    text, known = _CHECK
    return function if function(0, text, len(text)) == known else None
