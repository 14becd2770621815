"""The interval of a map's soft alignment curve.

Knows maps, no figures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engramcka.results import CkaMap, jackknife_interval, soft_alignment

Float = npt.NDArray[np.float64]


def alignment_interval(cka: CkaMap, k: int = 5, first_layer: int = 1) -> tuple[Float, Float] | None:
    """Ends of the soft alignment curve's 95 % interval, each (x layers,).

    None where the map has no jackknife.
    """
    if cka.jackknife is None or len(cka.jackknife) < 2:
        return None
    numbers = np.asarray(cka.y_layers, dtype=np.float64) + (first_layer - 1)
    without = soft_alignment(cka.jackknife, numbers, k)
    return jackknife_interval(cka.soft_alignment(k, first_layer), without)
