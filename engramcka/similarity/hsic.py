"""HSIC of two Gram matrices from a few sums over them, in float64 NumPy.

K~ is the Gram matrix K with its diagonal set to zero. Knows neither samples nor how the sums were
made; every function takes all pairs of layers at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engramcka.results import Float


@dataclass(frozen=True)
class PairSums:
    """What the estimators need of the Gram matrices K (of each y layer) and L (of each x layer).

    All are float64; leading dimensions, where there are any, are groups of samples.
    """

    n: Float  # (...), samples
    cross: Float  # (..., y layers, x layers): sum_ij K_ij L_ij
    y_self: Float  # (..., y layers): sum_ij K_ij^2
    x_self: Float  # (..., x layers)
    row_cross: Float  # (..., y layers, x layers): sum_i (K 1)_i (L 1)_i
    y_row_self: Float  # (..., y layers): sum_i (K 1)_i^2
    x_row_self: Float  # (..., x layers)
    y_total: Float  # (..., y layers): 1' K 1
    x_total: Float  # (..., x layers)


@dataclass(frozen=True)
class Hsic:
    """HSIC of all pairs and of each layer with itself; float64."""

    cross: Float  # (..., y layers, x layers)
    y_self: Float  # (..., y layers)
    x_self: Float  # (..., x layers)
    y_condition: Float  # (..., y layers): how much larger the terms of y_self are than y_self
    x_condition: Float  # (..., x layers)


def unbiased(sums: PairSums) -> Hsic:
    """Unbiased estimator HSIC_1 (Song et al. 2012, equation 5; Nguyen et al. 2021, equation 3).

    HSIC_1(K, L) = [tr(K~ L~) + 1'K~1 1'L~1 / ((n - 1)(n - 2)) - 2/(n - 2) 1'K~ L~1] / (n (n - 3))

    Args:
        sums: of K~ and L~, the Gram matrices with zero diagonal; n at least 4.
    """
    n = np.asarray(sums.n, dtype=np.float64)[..., None]
    return _combine(sums, 1 / ((n - 1) * (n - 2)), 2 / (n - 2), 1 / (n * (n - 3)))


def biased(sums: PairSums) -> Hsic:
    """Biased estimator HSIC_0 = tr(K H L H) / (n - 1)^2 (Gretton et al. 2005, equation 9).

    Written out: [sum_ij K_ij L_ij + 1'K1 1'L1 / n^2 - 2/n 1'K L1] / (n - 1)^2. This is what
    Kornblith et al. 2019 use.

    Args:
        sums: of K and L with their diagonals; n at least 2.
    """
    n = np.asarray(sums.n, dtype=np.float64)[..., None]
    return _combine(sums, 1 / n**2, 2 / n, 1 / (n - 1) ** 2)


def _combine(sums: PairSums, total: Float, row: Float, scale: Float) -> Hsic:
    """(inner + total * totals - row * rows) * scale; factors have shape (..., 1)."""
    totals = sums.y_total[..., :, None] * sums.x_total[..., None, :]
    pair = [factor[..., None] for factor in (total, row, scale)]
    cross = (sums.cross + pair[0] * totals - pair[1] * sums.row_cross) * pair[2]
    values, conditions = [], []
    for inner, rows, totals_self in (
        (sums.y_self, sums.y_row_self, sums.y_total**2),
        (sums.x_self, sums.x_row_self, sums.x_total**2),
    ):
        value = inner + total * totals_self - row * rows
        with np.errstate(invalid="ignore", divide="ignore"):
            conditions.append((inner + total * totals_self + row * rows) / value)
        values.append(value * scale)
    return Hsic(cross, values[0], values[1], conditions[0], conditions[1])
