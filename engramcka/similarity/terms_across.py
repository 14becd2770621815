"""Terms of samples of the estimator over all samples that leaves out pairs of one document.

HSIC is there a mean over sets of four samples of four documents (`across_documents`) of

    h = (K_ij + K_kl - K_ik - K_jl) (L_ij + L_kl - L_ik - L_jl) / 4,

so that a quarter of h belongs to each of the four. With q_i what a sample has of all sets, p_i the
share of the sets that it is in the first place of, and n samples, its term is

    (2 (n - 1) q_i - n p_i HSIC) / (n - 2).

The terms sum to HSIC. Where every sample is a document of its own they are the sums over its pairs
of U-centred Gram matrices, as `terms` gives them. NumPy only, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results import Float
from engramcka.similarity.documents import Ints

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Layout:
    """Samples by document: those of one are neighbours."""

    documents: Ints  # (samples,) increasing
    sizes: Float  # (documents,)
    first: Ints  # (documents,) first sample of each

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.documents)

    def summed(self, values: Float) -> Float:
        """(documents, ..) sums over the samples of each."""
        found: Float = np.add.reduceat(values, self.first, axis=0)
        return found


class _Side:
    """One layer: what rows of its Gram matrix without pairs of one document sum to."""

    def __init__(self, values: Float, layout: _Layout) -> None:
        self.values = values
        own = layout.summed(values)[layout.documents]  # of each sample's document
        lengths = np.einsum("ij,ij->i", values, own)
        size = layout.sizes[layout.documents]
        self.rows = values @ values.sum(axis=0) - lengths  # (n,) r_i
        self.by_size = values @ (size @ values) - size * lengths  # (n,) r^s_i
        self.of_documents = layout.summed(self.rows)  # R_a
        self.total = float(self.rows.sum())


class _Sums:
    """For two kernels, what every sample has of the parts of the sum over sets of four."""

    def __init__(self, y: _Side, x: _Side, layout: _Layout) -> None:
        self.sides, self.layout = (y, x), layout
        count = len(layout.sizes)
        self.own = np.zeros(layout.n)  # the parts that are of a sample itself
        self.along = np.zeros(layout.n)  # Z_i, the sum over documents of C_ib C'_ib
        self.products = np.zeros(count)  # e_a, the sum of K L over pairs with a sample of a
        self.by_size = np.zeros(count)  # the same, each times the size of the other's document
        self.shared = np.zeros(count)

    def add(self, a: int, first: Float, second: Float) -> None:
        """The rows of document a: (its samples, samples) of either kernel."""
        layout, (y, x) = self.layout, self.sides
        n, sizes, documents = layout.n, layout.sizes, layout.documents
        rows = slice(int(layout.first[a]), int(layout.first[a] + sizes[a]))
        own, others = sizes[a], sizes[documents]
        squares = float((sizes**2).sum())
        product = first * second
        pairs = product @ ((n - own - others) ** 2 - (squares - own**2 - others**2))
        c, d = (np.add.reduceat(part, layout.first, axis=1) for part in (first, second))
        along, by_size = (c * d).sum(axis=1), (c * d) @ sizes
        crossed = self._rest(x, a, d.sum(axis=0)), self._rest(y, a, c.sum(axis=0))
        sides = c @ crossed[0] + d @ crossed[1]
        to_a = first.sum(axis=0), second.sum(axis=0)  # C_la of every sample l
        chains = first @ self._left(x, own, to_a[1]) + second @ self._left(y, own, to_a[0])
        r, s = y.rows[rows], x.rows[rows]
        forks = (n - own) * (r * s - along)
        forks -= y.by_size[rows] * s + r * x.by_size[rows] - 2 * by_size
        self.own[rows] = pairs + sides - forks - chains
        self.along[rows] = along
        self.products[a] = product.sum()
        self.by_size[a] = (product @ others).sum()
        self.shared[a] = y.rows @ to_a[1] + x.rows @ to_a[0] - 2 * to_a[0] @ to_a[1]

    def _rest(self, side: _Side, a: int, with_a: Float) -> Float:
        """(documents,) the sum over pairs of two documents that are neither a nor it."""
        sums = side.of_documents
        rest: Float = side.total - 2 * sums[a] - 2 * sums + 2 * with_a
        return rest

    def _left(self, side: _Side, own: float, to_a: Float) -> Float:
        """(samples,) for j the sum over l and k, of other documents than a and j's, of L_jl."""
        size = self.layout.sizes[self.layout.documents]
        left: Float = (self.layout.n - own - size) * (side.rows - to_a)
        left -= side.by_size - own * to_a
        return left

    def shares(self, sets: float) -> Float:
        """(samples,) q_i: a quarter of all sets that a sample is in."""
        layout, (y, x) = self.layout, self.sides
        n, sizes = layout.n, layout.sizes
        far = (n - sizes) * (self.products.sum() - 2 * self.products)
        far -= 2 * ((sizes * self.products).sum() - sizes * self.products - self.by_size)
        stars = y.rows * x.rows - self.along
        far -= stars.sum() - layout.summed(stars) - self.shared
        found: Float = (self.own + far[layout.documents]) / (2 * sets)
        return found


def across_terms(
    y: Float, x: Float, documents: Ints, most: int, on_progress: Progress | None = None
) -> tuple[Float, Float]:
    """HSIC of pairs of different documents as one term a sample.

    Args:
        y: (samples, width) float64, centred.
        x: the same samples of the other layer.
        documents: (samples,) number of each sample's document.
        most: numbers of a part of a Gram matrix in memory.
        on_progress: called with (samples done, samples in all).

    Returns:
        (samples,) terms, which sum to HSIC, and HSIC of y and of x with themselves.

    Raises:
        ComparisonError: fewer than 4 documents.
    """
    order = np.argsort(documents, kind="stable")
    sizes = np.bincount(documents).astype(np.float64)
    if len(sizes) < 4:
        raise ComparisonError(f"{len(sizes)} documents; sets of four need four of them")
    first = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
    layout = _Layout(documents[order], sizes, first)
    a, b = (_Side(side[order], layout) for side in (y, x))
    sums = [_Sums(one, other, layout) for one, other in ((a, b), (a, a), (b, b))]
    for start, stop in _runs(layout, max(1, most // layout.n)):
        rows = slice(int(first[start]), int(first[stop - 1] + sizes[stop - 1]))
        grams = [side.values[rows] @ side.values.T for side in (a, b)]
        for document in range(start, stop):
            low = int(first[document])
            here = slice(low - rows.start, low - rows.start + int(sizes[document]))
            parts = [gram[here] for gram in grams]
            for part in parts:
                part[:, low : low + int(sizes[document])] = 0.0
            for one, pair in zip(sums, ((0, 1), (0, 0), (1, 1)), strict=True):
                one.add(document, parts[pair[0]], parts[pair[1]])
        if on_progress is not None:
            on_progress(rows.stop, layout.n)
    every, of_each = _sets(sizes)
    shares, *own = (one.shares(every) for one in sums)
    hsic, n = shares.sum(), layout.n
    terms = np.empty(n)
    first_places = of_each[layout.documents] / every
    terms[order] = (2 * (n - 1) * shares - n * first_places * hsic) / (n - 2)
    return terms, np.array([part.sum() for part in own])


def _runs(layout: _Layout, most: int) -> list[tuple[int, int]]:
    """Neighbouring documents of at most so many samples together, or one."""
    runs, start, held = [], 0, 0
    for document, size in enumerate(layout.sizes.tolist()):
        if document > start and held + size > most:
            runs.append((start, document))
            start, held = document, 0
        held += size
    return [*runs, (start, len(layout.sizes))]


def _sets(sizes: Float) -> tuple[float, Float]:
    """Ordered sets of four samples of four documents, and those that a sample of each begins."""
    powers = [sizes**k for k in (1, 2, 3, 4)]
    p, q, c, f = (float(power.sum()) for power in powers)
    every = p**4 - 6 * p**2 * q + 3 * q**2 + 8 * p * c - 6 * f
    left = [total - power for total, power in zip((p, q, c), powers, strict=False)]
    of_each: Float = left[0] ** 3 - 3 * left[0] * left[1] + 2 * left[2]
    return every, of_each
