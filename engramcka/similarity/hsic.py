"""HSIC from a few sums over Gram matrices, and CKA with its intervals from HSIC; float64 NumPy.

K~ is the Gram matrix K with its diagonal set to zero. "Layers" are y's and then x's. Every function
takes all pairs of layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engramcka.results import Float, jackknife_interval

Bool = npt.NDArray[np.bool_]
Array = TypeVar("Array", Float, Bool)

FLOAT32_CONDITION = 2.0  # of float32 sums; above it they are made once more in float64
# A float64 sum that cancels to one part in 10^7 of its terms is good to some 1e-8; past that we
# call the answer ill conditioned.
MAX_CONDITION = 1e7


@dataclass(frozen=True)
class PairSums:
    """What the estimators need of the Gram matrices K (of each y layer) and L (of each x layer).

    All are float64; leading dimensions, where there are any, are sets of samples.
    """

    cross: Float  # (..., y layers, x layers): sum_ij K_ij L_ij
    own: Float  # (..., layers): sum_ij K_ij^2
    row_cross: Float  # (..., y layers, x layers): sum_i (K 1)_i (L 1)_i
    row_own: Float  # (..., layers): sum_i (K 1)_i^2
    total: Float  # (..., layers): 1' K 1


@dataclass(frozen=True)
class Hsic:
    """HSIC of all pairs and of each layer with itself; float64.

    The terms say how far the sums cancel: an error of one part in 10^7 in them is one of
    10^-7 terms / own in the result.
    """

    cross: Float  # (..., y layers, x layers)
    own: Float  # (..., layers)
    terms: Float  # (..., layers): the terms that own is the sum of, without their signs

    def __add__(self, other: Hsic) -> Hsic:
        return Hsic(*(a + b for a, b in zip(self._fields(), other._fields(), strict=True)))

    def __sub__(self, other: Hsic) -> Hsic:
        return Hsic(*(a - b for a, b in zip(self._fields(), other._fields(), strict=True)))

    def __truediv__(self, number: float) -> Hsic:
        return Hsic(*(part / number for part in self._fields()))

    def __getitem__(self, index: int | slice | npt.NDArray[np.int64]) -> Hsic:
        return Hsic(*(part[index] for part in self._fields()))

    def _fields(self) -> tuple[Float, ...]:
        return self.cross, self.own, self.terms

    @classmethod
    def stack(cls, parts: Sequence[Hsic]) -> Hsic:
        """The same fields with a new leading dimension, one entry a part."""
        return cls(*(np.stack(list(part)) for part in zip(*map(Hsic._fields, parts), strict=True)))

    def sides(self, values: Array) -> tuple[Array, Array]:
        """(..., layers) values of y's layers and of x's."""
        y_count = self.cross.shape[-2]
        return values[..., :y_count], values[..., y_count:]


@dataclass(frozen=True)
class Weights:
    """An estimator as (inner + total * 1'K1 1'L1 - row * 1'K L1) * scale.

    Each is one number, or (...) of them for as many sets of samples.
    """

    total: float | Float
    row: float | Float
    scale: float | Float


def unbiased(n: float | Float) -> Weights:
    """Unbiased estimator HSIC_1 (Song et al. 2012, equation 5; Nguyen et al. 2021, equation 3).

    HSIC_1(K, L) = [tr(K~ L~) + 1'K~1 1'L~1 / ((n - 1)(n - 2)) - 2/(n - 2) 1'K~ L~1] / (n (n - 3))

    Args:
        n: samples, at least 4; the sums are those of K~ and L~, with zero diagonals.
    """
    return Weights(1 / ((n - 1) * (n - 2)), 2 / (n - 2), 1 / (n * (n - 3)))


def biased(n: float | Float) -> Weights:
    """Biased estimator HSIC_0 = tr(K H L H) / (n - 1)^2 (Gretton et al. 2005, equation 9).

    Written out: [sum_ij K_ij L_ij + 1'K1 1'L1 / n^2 - 2/n 1'K L1] / (n - 1)^2. This is what
    Kornblith et al. 2019 use.

    Args:
        n: samples, at least 2; the sums are those of K and L with their diagonals.
    """
    return Weights(1 / n**2, 2 / n, 1 / (n - 1) ** 2)


def combine(sums: PairSums, weights: Weights) -> Hsic:
    """HSIC of all pairs, and of each layer with itself, by one of the estimators."""
    cross = combine_cross(sums.cross, sums.row_cross, sums.total, weights)
    total, row, scale = (_wide(part, 1) for part in (weights.total, weights.row, weights.scale))
    plus, minus = sums.own + total * sums.total**2, row * sums.row_own
    return Hsic(cross, (plus - minus) * scale, (plus + minus) * scale)


def combine_cross(inner: Float, rows: Float, totals: Float, weights: Weights) -> Float:
    """HSIC of all pairs from the fields cross, row_cross and total of `PairSums`."""
    total, row, scale = (_wide(part, 2) for part in (weights.total, weights.row, weights.scale))
    y_count = inner.shape[-2]
    pairs = totals[..., :y_count, None] * totals[..., None, y_count:]
    value: Float = (inner + total * pairs - row * rows) * scale
    return value


def imprecise(values: Hsic) -> Bool:
    """(..., layers) whose sums cancel more than float32 allows, or are no number."""
    with np.errstate(invalid="ignore"):
        return ~((values.own > 0) & (values.terms <= FLOAT32_CONDITION * values.own))


def zeroed(values: Hsic, layers: Bool) -> Hsic:
    """The same with exact zeros for the layers given (boolean), which do not vary."""
    y, x = values.sides(layers)
    pairs = y[:, None] | x[None, :]
    parts = zip((pairs, layers, layers), values._fields(), strict=True)
    return Hsic(*(np.where(which, 0.0, part) for which, part in parts))


def _wide(weight: float | Float, dimensions: int) -> float | Float:
    """The weight with further dimensions of length 1, to go with layers or pairs of layers."""
    if isinstance(weight, float):
        return weight
    return weight.reshape(weight.shape + (1,) * dimensions)


@dataclass(frozen=True)
class Ratios:
    """CKA of every pair of layers, float64; NaN where there is nothing to divide by."""

    similarity: Float  # (y layers, x layers)
    jackknife: Float | None  # (groups, y layers, x layers), without each group
    ci_low: Float | None  # (y layers, x layers), 95 % interval
    ci_high: Float | None


def ratios(whole: Hsic, without: Hsic | None) -> Ratios:
    """CKA, cross / sqrt(own own), of all samples and without each group.

    Args:
        whole: over all samples.
        without: (groups, ...) without each group.
    """
    similarity = ratio(whole.cross, whole)
    jackknife = low = high = None
    if without is not None:
        jackknife = ratio(without.cross, without)
        low, high = jackknife_interval(similarity, jackknife)
    return Ratios(similarity, jackknife, low, high)


def undefined(whole: Hsic) -> list[tuple[Bool, Bool]]:
    """For y and for x: (layers,) which do not vary at all, and which are ill conditioned."""
    constant = whole.terms == 0
    with np.errstate(invalid="ignore"):
        ill = ~constant & ~(whole.own * MAX_CONDITION > whole.terms)
    return list(zip(whole.sides(constant), whole.sides(ill), strict=True))


def ratio(cross: Float, own: Hsic) -> Float:
    """cross / sqrt(own own) of (.., y layers, x layers); NaN where a layer has no own HSIC."""
    with np.errstate(invalid="ignore"):
        norms = np.sqrt(np.where(own.own * MAX_CONDITION > own.terms, own.own, np.nan))
    y, x = own.sides(norms)
    quotient: Float = cross / y[..., :, None] / x[..., None, :]
    return quotient
