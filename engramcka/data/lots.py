"""Random numbers that belong to places in the text: to draw by, the same ones for every tokenizer.

Knows nothing of what is drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_STEP = 0x9E3779B97F4A7C15  # of SplitMix64: 2**64 over the golden ratio


def lots(
    seed: int, purpose: str, document: str, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """A number a place, evenly spread over 64 bits: the same wherever and whenever it is asked for.

    Args:
        seed: the run's.
        purpose: numbers for different purposes are independent.
        document: its id.
        places: (n, 2) first character of each place and one past its last.

    Returns:
        (n,) uint64.
    """
    named = f"{purpose}\0{seed}\0{document}".encode(errors="surrogatepass")
    start = int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big")
    numbers = np.full(len(places), start, dtype=np.uint64)
    for column in places.astype(np.uint64).T:
        numbers = _mixed(numbers ^ column)
    return numbers


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): a bijection that leaves no pattern."""
    numbers = numbers + np.uint64(_STEP)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
