"""What each sample gives to the similarity of two layers: HSIC as a sum of one term a sample.

HSIC is a sum over pairs of samples of how alike the two are in one layer times how alike they are
in the other, both against what is usual for either sample. A sample's term is the sum over its
pairs; the terms of all samples sum to HSIC. NumPy only, in float64, a part of a Gram matrix in
memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap, Float
from engramcka.similarity import documents as grouping
from engramcka.similarity.constants import CONSTANT, MEDIAN_SAMPLES, RMS_EPSILON
from engramcka.similarity.documents import Ints
from engramcka.similarity.terms_across import across_terms

TILE = 1 << 22  # numbers of a part of a Gram matrix: 32 MiB
HELD_BYTES = 1 << 30  # of the samples of a batch, both layers together, in float64
CLOSE = 1e-3  # a similarity further from the map's is not that of the same hidden states
_READ_SAMPLES = 1024

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SampleTerms:
    """HSIC of two layers as one term a sample, and CKA as it follows; float64."""

    terms: Float  # (samples,) of HSIC, which is their sum
    # (samples,) the other sample of the pair that gives a sample most, by size, and what that pair
    # gives it; None where HSIC is no sum over pairs
    partner: Ints | None
    partner_terms: Float | None
    hsic: float  # of the two layers, summed over batches
    similarity: float  # CKA

    @property
    def shares(self) -> Float:
        """(samples,) of the whole, with signs; they sum to 1."""
        shares: Float = self.terms / self.hsic
        return shares

    def largest(self, count: int) -> Ints:
        """The samples with the largest terms, by size, the largest first."""
        order: Ints = np.argsort(-np.abs(self.terms), kind="stable")[:count]
        return order


def map_terms(
    cka: CkaMap,
    row: int,
    column: int,
    y: Any,
    x: Any,
    groups: Sequence[Any] | None = None,
    on_progress: Progress | None = None,
) -> SampleTerms:
    """The terms of one cell of a map, by the estimator, in the batches and with the options of it.

    Args:
        cka: the map.
        row: of the cell, from 0.
        column: of the cell, from 0.
        y: (samples, width) hidden states of the row's layer, as they were compared; an array whose
            slices are NumPy arrays is read a part at a time.
        x: those of the column's layer.
        groups: the document of each sample, where the map knows documents.
        on_progress: called with (samples done, samples in all).

    Raises:
        ComparisonError: the map was made in a way that has no such terms, or that it does not keep
            well enough; or what follows from y and x is not the map's value.
    """
    _require_terms(cka, len(y))
    n = len(y)
    documents = None if groups is None else grouping.document_numbers(groups)
    if documents is not None and documents.max() + 1 == n:
        documents = None
    batches: list[Ints] = [np.arange(n)]
    if cka.estimator == "minibatch":
        assert cka.batch_size is not None
        random = cka.batches != "in-order"
        across = cka.pairs == "across-documents"
        batches = grouping.draw(
            n, cka.batch_size, cka.seed or 0, documents if random else None,
            random=random, across=across,
        ).batches  # fmt: skip
    sides = [_Side(layer, cka.normalize) for layer in (y, x)]
    dropped = [
        () if found is None else found.dropped[index] if found.dropped else ()
        for found, index in ((cka.y_diagnostics, row), (cka.x_diagnostics, column))
    ]
    if cka.standardize == "zscore":
        sides = [side.standardized() for side in sides]
    elif cka.standardize == "drop-massive":
        sides = [side.without(gone) for side, gone in zip(sides, dropped, strict=True)]
    across = cka.pairs == "across-documents" and cka.estimator == "debiased"
    if across and documents is not None:
        found = _across(sides[0], sides[1], documents, on_progress)
    else:
        rbf = cka.kernel == "rbf"
        found = sample_terms(
            sides[0], sides[1], batches, biased=cka.estimator == "biased",
            bandwidths=[bandwidth(side, cka.seed or 0) for side in sides] if rbf else None,
            on_progress=on_progress,
        )  # fmt: skip
    value = float(cka.similarity[row, column])
    if not abs(found.similarity - value) <= CLOSE:
        raise ComparisonError(
            f"the hidden states there are now give {found.similarity:.4f} for this cell, the map "
            f"has {value:.4f}: they are not those that it was made from"
        )
    return found


def sample_terms(
    y: Any,
    x: Any,
    batches: Sequence[Ints],
    *,
    biased: bool = False,
    bandwidths: Sequence[float] | None = None,
    on_progress: Progress | None = None,
) -> SampleTerms:
    """HSIC, summed over batches, as one term a sample.

    With A and B the Gram matrices of a batch of n, U-centred (Szekely and Rizzo 2014, equation
    2.10), the unbiased HSIC_1 is sum_ij A_ij B_ij / (n (n - 3)) over i != j, and the biased HSIC_0
    sum_ij (H K H)_ij (H L H)_ij / (n - 1)^2. Sample i's term is the sum over j.

    Args:
        y: (samples, width), whose rows an array of numbers picks, or that has ``take``.
        x: the same samples of the other layer.
        batches: the samples of each; a sample is in one batch at most.
        biased: HSIC_0 instead of HSIC_1.
        bandwidths: of y's and x's RBF kernel, unbiased; None for the linear kernel.
        on_progress: called with (samples done, samples in all).

    Raises:
        ComparisonError: a batch does not fit into the memory that this may take, a value is not
            finite, or a layer does not vary.
    """
    n = len(y)
    terms, partner_terms = np.zeros(n), np.zeros(n)
    partner = np.zeros(n, dtype=np.int64)
    own, done, total = np.zeros(2), 0, sum(map(len, batches))
    for rows in batches:
        held = [
            _kernel(_centred(side, rows), biased, None if bandwidths is None else bandwidths[index])
            for index, side in enumerate((y, x))
        ]
        scale = 1 / (len(rows) - 1) ** 2 if biased else 1 / (len(rows) * (len(rows) - 3))
        step = max(1, TILE // len(rows))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            a, b = (kernel.centred(part) for kernel in held)
            own += scale * np.array([np.vdot(a, a), np.vdot(b, b)])
            a *= b
            a *= scale
            here = rows[part]
            terms[here] = a.sum(axis=1)
            np.fill_diagonal(a[:, start:], 0.0)  # a pair of a sample with itself has no partner
            best = np.abs(a).argmax(axis=1)
            partner[here] = rows[best]
            partner_terms[here] = a[np.arange(len(here)), best]
            done += len(here)
            if on_progress is not None:
                on_progress(done, total)
    return _with_similarity(terms, own, partner, partner_terms)


def _with_similarity(
    terms: Float, own: Float, partner: Ints | None = None, partner_terms: Float | None = None
) -> SampleTerms:
    """Terms with HSIC and CKA as they follow; own is HSIC of each layer with itself."""
    if not (own > 0).all():
        raise ComparisonError("a layer does not vary over the samples: no term can be given")
    hsic = float(terms.sum())
    return SampleTerms(terms, partner, partner_terms, hsic, hsic / float(np.sqrt(own.prod())))


def _require_terms(cka: CkaMap, n: int) -> None:
    """Refuse maps that are no sum over samples, or that do not say which samples they are over."""
    dropped = cka.n_dropped + cka.n_massive_dropped
    problem = ""
    if cka.estimator not in ("minibatch", "debiased", "biased"):
        problem = f"it was not made here (estimator {cka.estimator})"
    elif cka.kernel not in ("linear", "rbf") or (cka.kernel, cka.estimator) == ("rbf", "biased"):
        problem = f"its kernel is {cka.kernel}; terms are given for the linear one and rbf"
    elif cka.n_samples != n:
        problem = f"it is over {cka.n_samples} samples, and the hidden states there are of {n}"
        problem += f"; {dropped} were left out for their values (see kept_samples)" * (dropped > 0)
    if problem:
        raise ComparisonError(f"the map cannot be taken apart: {problem}")


@dataclass(frozen=True)
class _Kernel:
    """A Gram matrix of some samples, made a part at a time."""

    values: Float  # (n, width), centred
    lengths: Float  # (n,) squared
    bandwidth: float | None  # None for the linear kernel
    biased: bool
    levels: Float | None = None  # (n,) what U-centring adds to each row and column

    def raw(self, part: slice) -> Float:
        """Some of its rows."""
        gram: Float = self.values[part] @ self.values.T
        if self.bandwidth is not None:
            gram *= -2
            gram += self.lengths[part, None]
            gram += self.lengths
            np.maximum(gram, 0, out=gram)
            gram /= -2 * self.bandwidth**2
            np.exp(gram, out=gram)
        return gram

    def centred(self, part: slice) -> Float:
        """The same double-centred, or U-centred with a diagonal of zeros."""
        gram = self.raw(part)
        if not self.biased:
            assert self.levels is not None
            gram += self.levels[part, None]
            gram += self.levels
            np.fill_diagonal(gram[:, part.start :], 0.0)
        return gram


def _kernel(values: Float, biased: bool, width: float | None) -> _Kernel:
    """With what U-centring adds: -r_i / (n - 2) + t / (2 (n - 1) (n - 2)), r the sums of rows
    without the diagonal and t of all.

    Of linear features that are centred, r_i is minus the diagonal.
    """
    n = len(values)
    kernel = _Kernel(values, np.square(values).sum(axis=1), width, biased)
    if biased:
        return kernel
    rows = -kernel.lengths
    if width is not None:
        step = max(1, TILE // n)
        parts = (kernel.raw(slice(at, at + step)).sum(axis=1) for at in range(0, n, step))
        rows = np.concatenate(list(parts)) - 1
    return replace(kernel, levels=-rows / (n - 2) + rows.sum() / (2 * (n - 1) * (n - 2)))


def bandwidth(side: Any, seed: int) -> float:
    """Of the RBF kernel: the median distance between two of up to `MEDIAN_SAMPLES` samples."""
    values = picked(side, grouping.some_samples(len(side), MEDIAN_SAMPLES, seed))
    values -= values.mean(axis=0)
    lengths = np.square(values).sum(axis=1)
    squared = lengths[:, None] + lengths - 2 * values @ values.T
    pairs = np.sqrt(np.maximum(squared[np.triu_indices(len(values), 1)], 0))
    median = float(np.partition(pairs, (len(pairs) - 1) // 2)[(len(pairs) - 1) // 2])
    return median or 1.0


def _across(y: Any, x: Any, documents: Ints, on_progress: Progress | None) -> SampleTerms:
    """The terms of the estimator over all samples that leaves out pairs of one document."""
    held = [_centred(side, np.arange(len(documents))) for side in (y, x)]
    return _with_similarity(*across_terms(held[0], held[1], documents, TILE, on_progress))


def _centred(side: Any, rows: Ints) -> Float:
    """(rows, width) float64, the mean over the rows taken off."""
    if len(rows) * side.shape[1] * 8 > HELD_BYTES // 2:
        raise ComparisonError(
            f"{len(rows)} samples of width {side.shape[1]} are more than is held at once "
            f"({HELD_BYTES >> 30} GiB); a map with smaller batches can be taken apart"
        )
    values = picked(side, rows)
    if not np.isfinite(values).all():
        raise ComparisonError("a value of the hidden states is not finite")
    centred: Float = values - values.mean(axis=0)
    return centred


def picked(side: Any, rows: Ints) -> Float:
    """(rows, width) a new array of float64."""
    if hasattr(side, "take") and not isinstance(side, np.ndarray):
        return np.array(side.take(rows)[:], dtype=np.float64)
    return np.array(side[rows], dtype=np.float64)


def normalize_rms(values: Float) -> None:
    """Divide each row of (samples, width) by its root mean square, in place."""
    values /= np.sqrt((values**2).mean(axis=1, keepdims=True) + RMS_EPSILON)


@dataclass(frozen=True)
class _Side:
    """One layer with the changes of its map: norm, then standardisation."""

    array: Any
    normalize: str
    mean: Float | None = None
    factor: Float | None = None
    kept: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and dimensions."""
        return len(self.array), int(self.array.shape[1])

    def __getitem__(self, rows: Ints) -> Float:
        values = picked(self.array, rows)
        if self.normalize == "rms":
            normalize_rms(values)
        if self.mean is not None and self.factor is not None:
            values = (values - self.mean) * self.factor
        kept: Float = values if self.kept is None else values[:, self.kept]
        return kept

    def standardized(self) -> _Side:
        """Every dimension divided by its standard deviation; one that does not vary is 0."""
        parts = [
            np.arange(at, min(at + _READ_SAMPLES, len(self)))
            for at in range(0, len(self), _READ_SAMPLES)
        ]
        mean = sum((self[rows].sum(axis=0) for rows in parts), np.zeros(1)) / len(self)
        squares = sum((((self[rows] - mean) ** 2).sum(axis=0) for rows in parts), np.zeros(1))
        deviation = np.sqrt(squares / len(self))
        varies = deviation > CONSTANT * np.abs(mean)
        factor = np.where(varies, 1 / np.where(varies, deviation, 1.0), 0.0)
        return replace(self, mean=mean, factor=factor)

    def without(self, dimensions: Sequence[int]) -> _Side:
        """The same without some dimensions."""
        return replace(self, kept=np.delete(np.arange(self.shape[1]), list(dimensions)))
