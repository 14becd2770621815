"""What every reader of others' files gives, and how large what such a file promises may be.

A size is checked before anything of that size is allocated. The limits are far beyond any model and
any sample; what is larger is a mistake or meant to fill the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engramcka import foreign_files

MOST_CHUNK = 2 << 30  # bytes of a part that is read at once; blosc has no larger ones
MOST_ARRAYS = 4096  # in one file or folder, and layers of a stack
MOST_SAMPLES = 1 << 24
MOST_WIDTH = 1 << 20
_MOST_HEADER = 16 << 20  # bytes of a .safetensors header
_HEADER_LENGTH = 8
Opened = tuple[dict[str, Any], Callable[[str, slice], Any]]
"""Array's name -> something with shape and dtype, and the reader of (array's name, samples)."""


def check_count(count: int) -> None:
    """Refuse more arrays than a model has layers; raises ValueError."""
    if count > MOST_ARRAYS:
        raise ValueError(f"{count:,} arrays; at most {MOST_ARRAYS:,}")


def chunk_bytes(chunk: Any, itemsize: int) -> int:
    """Bytes that a chunk of this shape holds.

    Raises:
        ValueError: it is no shape, or an absurd one.
    """
    if not isinstance(chunk, Sequence) or not all(type(n) is int and n > 0 for n in chunk):
        raise ValueError(f"chunks of shape {str(chunk)[:40]}")
    size = math.prod(chunk) * itemsize
    if size > MOST_CHUNK:
        raise ValueError(f"chunks of {size:,} bytes; at most {MOST_CHUNK:,}, save smaller ones")
    return size


def encoded_bytes(size: int) -> int:
    """Bytes that a chunk of ``size`` has at most, whatever encodes it."""
    return size + size // 16 + (64 << 10)


def check_header(path: Path) -> None:
    """Refuse a .safetensors file whose header is absurdly large; raises ValueError or OSError."""
    with foreign_files.open_file(path) as file:
        length = int.from_bytes(file.read(_HEADER_LENGTH), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"a header of {length:,} bytes; at most {_MOST_HEADER:,}")


@dataclass(frozen=True)
class ArrayShape:
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: Any
