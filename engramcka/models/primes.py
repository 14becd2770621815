"""Primes, the sizes of Engram's tables. No torch, so that presets can be sized without it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from math import isqrt

import numpy as np


def primes_from(start: int) -> Iterator[int]:
    """Primes from ``start`` upwards, ``start`` included, without end."""
    for candidate in count(max(start, 2)):
        if (candidate % np.arange(2, isqrt(candidate) + 1)).all():
            yield candidate
