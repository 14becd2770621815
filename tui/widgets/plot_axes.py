"""Round numbers along an axis, as text. Pure functions."""

from __future__ import annotations

import numpy as np


def value_text(value: float, low: float, high: float) -> str:
    """A number with as many decimals as tell numbers of a range apart."""
    places = int(np.clip(np.ceil(-np.log10(max(high - low, 1e-9))) + 1, 0, 5))
    return f"{value + 0.0:.{places}f}"


def round_values(low: float, high: float, most: int) -> list[float]:
    """At most about ``most`` multiples of 1, 2 or 5 times a power of ten in a range."""
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = int(np.ceil(low / step))
    return [i * step for i in range(first, int(np.floor(high / step)) + 1)]
