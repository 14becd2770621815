"""What every reader of others' formats gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Opened = tuple[dict[str, Any], Callable[[str, slice], Any]]
"""Array's name -> something with shape and dtype, and the reader of (array's name, samples)."""


@dataclass(frozen=True)
class ArrayShape:
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: Any
