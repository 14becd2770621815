"""Which layer numbers an axis shows, and short names for positions along it.

Knows nothing of matplotlib. Steps are 1, 5, 10, 20, 50, ..: the numbers people count in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_STEPS = tuple(base * 10**power for power in range(6) for base in (1, 2, 5))
_ROOM = 0.7  # of a step, that the first layer's tick needs before the next one


def layer_ticks(numbers: Sequence[int] | npt.NDArray[np.float64], most: int) -> list[int]:
    """Layer numbers to write on an axis: all, or few enough to be read apart.

    Args:
        numbers: the layers there are, ascending.
        most: how many numbers have room, at least 1.

    Returns:
        Some of ``numbers``: all where they fit; multiples of a round step, after the first one,
        where the layers follow each other; else every so many.
    """
    layers = [round(number) for number in numbers]
    most = max(most, 1)
    if len(layers) <= most:
        return layers
    if layers[-1] - layers[0] != len(layers) - 1:
        return layers[:: -(-len(layers) // most)]
    step = next(step for step in _STEPS if step != 2 and len(layers) / step <= most)
    multiples = [layer for layer in layers if layer % step == 0]
    first = layers[:1] if not multiples or multiples[0] - layers[0] >= _ROOM * step else []
    return first + multiples
