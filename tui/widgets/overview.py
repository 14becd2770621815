"""A map larger than the screen as means of square blocks of cells.

Pure functions; what is shown says that it is a mean, the readout stays that of the cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engramcka.tui.widgets.geometry import Geometry

Float = npt.NDArray[np.float64]


def block_means(values: Float, factor: int) -> Float:
    """(rows, columns) as means over the finite cells of factor x factor blocks, from row 0 on.

    The last blocks are smaller where the sides are no multiples; a block without a finite cell is
    NaN.
    """
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0), there.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        sums = np.add.reduceat(sums, starts, axis=axis)
        counts = np.add.reduceat(counts, starts, axis=axis)
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def block_curve(heights: list[float], factor: int) -> list[float]:
    """A curve over columns in rows, as one over blocks of columns in blocks of rows."""
    rows = (np.array([heights], dtype=np.float64) + 0.5) / factor - 0.5
    means: list[float] = block_means(np.repeat(rows, factor, axis=0), factor)[0].tolist()
    return means


def factor_that_fits(rows: int, columns: int, fit: Callable[[int, int], Geometry]) -> int:
    """The smallest side of blocks with which the whole map is shown."""
    factor = 1
    while factor < max(rows, columns):
        if fit(-(-rows // factor), -(-columns // factor)).whole:
            break
        factor += 1
    return factor
