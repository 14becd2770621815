"""HSIC of two Gram matrices from a few sums over them, in float64 NumPy.

K~ is the Gram matrix K with its diagonal set to zero. Knows neither samples nor how the sums were
made; every function takes all pairs of layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engramcka.results import Float

Bool = npt.NDArray[np.bool_]

MAX_CONDITION = 2.0  # of float32 sums; above it they are made once more in float64


@dataclass(frozen=True)
class PairSums:
    """What the estimators need of the Gram matrices K (of each y layer) and L (of each x layer).

    All are float64; leading dimensions, where there are any, are sets of samples.
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
    """HSIC of all pairs and of each layer with itself; float64.

    The terms say how far the sums cancel: an error of one part in 10^7 in them is one of
    10^-7 terms / self in the result.
    """

    cross: Float  # (..., y layers, x layers)
    y_self: Float  # (..., y layers)
    x_self: Float  # (..., x layers)
    y_terms: Float  # (..., y layers): the terms that y_self is the sum of, without their signs
    x_terms: Float  # (..., x layers)

    def __add__(self, other: Hsic) -> Hsic:
        return Hsic(*(a + b for a, b in zip(self._fields(), other._fields(), strict=True)))

    def __sub__(self, other: Hsic) -> Hsic:
        return Hsic(*(a - b for a, b in zip(self._fields(), other._fields(), strict=True)))

    def __getitem__(self, index: int | slice) -> Hsic:
        return Hsic(*(part[index] for part in self._fields()))

    def _fields(self) -> tuple[Float, ...]:
        return self.cross, self.y_self, self.x_self, self.y_terms, self.x_terms

    @classmethod
    def stack(cls, parts: Sequence[Hsic]) -> Hsic:
        """The same fields with a new leading dimension, one entry a part."""
        return cls(*(np.stack(list(part)) for part in zip(*map(Hsic._fields, parts), strict=True)))

    @property
    def conditions(self) -> tuple[Float, Float]:
        """Terms over value of y's and x's layers; from 1, infinite or NaN where a value is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.y_terms / np.abs(self.y_self), self.x_terms / np.abs(self.x_self)


@dataclass(frozen=True)
class Weights:
    """An estimator as (inner + total * 1'K1 1'L1 - row * 1'K L1) * scale; each (...) as n."""

    total: Float
    row: Float
    scale: Float


def unbiased(n: Float) -> Weights:
    """Unbiased estimator HSIC_1 (Song et al. 2012, equation 5; Nguyen et al. 2021, equation 3).

    HSIC_1(K, L) = [tr(K~ L~) + 1'K~1 1'L~1 / ((n - 1)(n - 2)) - 2/(n - 2) 1'K~ L~1] / (n (n - 3))

    Args:
        n: samples, at least 4; the sums are those of K~ and L~, with zero diagonals.
    """
    return Weights(1 / ((n - 1) * (n - 2)), 2 / (n - 2), 1 / (n * (n - 3)))


def biased(n: Float) -> Weights:
    """Biased estimator HSIC_0 = tr(K H L H) / (n - 1)^2 (Gretton et al. 2005, equation 9).

    Written out: [sum_ij K_ij L_ij + 1'K1 1'L1 / n^2 - 2/n 1'K L1] / (n - 1)^2. This is what
    Kornblith et al. 2019 use.

    Args:
        n: samples, at least 2; the sums are those of K and L with their diagonals.
    """
    return Weights(1 / n**2, 2 / n, 1 / (n - 1) ** 2)


def combine(sums: PairSums, weights: Weights) -> Hsic:
    """HSIC of all pairs, and of each layer with itself, by one of the estimators."""
    cross = combine_cross(sums.cross, sums.row_cross, sums.y_total, sums.x_total, weights)
    total, row, scale = (_wide(part, 1) for part in (weights.total, weights.row, weights.scale))
    values, terms = [], []
    for inner, rows, totals in (
        (sums.y_self, sums.y_row_self, sums.y_total),
        (sums.x_self, sums.x_row_self, sums.x_total),
    ):
        plus, minus = inner + total * totals**2, row * rows
        values.append((plus - minus) * scale)
        terms.append((plus + minus) * scale)
    return Hsic(cross, values[0], values[1], terms[0], terms[1])


def combine_cross(
    inner: Float, rows: Float, y_total: Float, x_total: Float, weights: Weights
) -> Float:
    """HSIC of all pairs from the fields cross, row_cross, y_total and x_total of `PairSums`."""
    total, row, scale = (_wide(part, 2) for part in (weights.total, weights.row, weights.scale))
    totals = y_total[..., :, None] * x_total[..., None, :]
    value: Float = (inner + total * totals - row * rows) * scale
    return value


def doubtful(values: Hsic) -> tuple[Bool, Bool]:
    """(layers,) of y and of x whose sums cancel more than float32 allows, or are no number."""
    with np.errstate(invalid="ignore"):
        y, x = (~((part > 0) & (part <= MAX_CONDITION)) for part in values.conditions)
    return y, x


def zeroed(values: Hsic, y_layers: Bool, x_layers: Bool) -> Hsic:
    """The same with exact zeros for the layers given (boolean), which do not vary."""
    pairs = y_layers[:, None] | x_layers[None, :]
    return Hsic(
        np.where(pairs, 0.0, values.cross),
        np.where(y_layers, 0.0, values.y_self),
        np.where(x_layers, 0.0, values.x_self),
        np.where(y_layers, 0.0, values.y_terms),
        np.where(x_layers, 0.0, values.x_terms),
    )


def _wide(weight: Float, dimensions: int) -> Float:
    """The weight with further dimensions of length 1, to go with layers or pairs of layers."""
    weight = np.asarray(weight, dtype=np.float64)
    return weight.reshape(weight.shape + (1,) * dimensions)
