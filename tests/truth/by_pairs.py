"""CKA over samples of different documents once more, straight from its definition.

HSIC is the mean, over all ordered sets of four samples of four different documents, of
K_ij L_ij + K_ij L_kl - 2 K_ij L_ik (Song et al. 2012, section 2.2, with documents drawn instead
of samples). `brute_force` is that sentence; `hsic` is the same sum, arranged. Plain float64 NumPy,
nothing of engramcka.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def cka(y: npt.ArrayLike, x: npt.ArrayLike, documents: npt.ArrayLike) -> float:
    """Debiased CKA of two layers, each (samples, width)."""
    return float(cka_matrix([y], [x], documents)[0, 0])


def cka_matrix(
    ys: Sequence[npt.ArrayLike], xs: Sequence[npt.ArrayLike], documents: npt.ArrayLike
) -> Floats:
    """(layers of y, layers of x)."""
    every = Documents(documents)
    y, x = ([PairSums(layer, every) for layer in side] for side in (ys, xs))
    own_y, own_x = ([hsic(one, one) for one in side] for side in (y, x))
    cross = np.array([[hsic(a, b) for b in x] for a in y])
    return cross / np.sqrt(np.outer(own_y, own_x))


class Documents:
    """Which samples are of which document, and how many sets of four there are."""

    def __init__(self, labels: npt.ArrayLike) -> None:
        _, of = np.unique(labels, return_inverse=True)
        self.member = np.eye(of.max() + 1)[of]  # (samples, documents)
        self.sizes = s = self.member.sum(axis=0)
        self.n = s.sum()
        # Two samples of documents a and b: how many pairs of two other documents complete them.
        rest = self.n - s[:, None] - s[None]
        squares = (s**2).sum() - s[:, None] ** 2 - s[None] ** 2
        self.completed = self.member @ (rest**2 - squares) @ self.member.T  # (samples, samples)
        self.different = 1 - self.member @ self.member.T
        e = [1.0, 0.0, 0.0, 0.0, 0.0]  # e_k of the sizes
        for size in s.tolist():
            for order in (4, 3, 2, 1):
                e[order] += size * e[order - 1]
        self.sets_of_four = 24 * e[4]


class PairSums:
    """A layer's Gram matrix over pairs of different documents, and its sums over documents.

    Features are centred, which changes no value but keeps digits.
    """

    def __init__(self, features: npt.ArrayLike, documents: Documents) -> None:
        x = np.asarray(features, dtype=np.float64)
        x = x - x.mean(axis=0)
        s, member = documents.sizes, documents.member
        self.documents = documents
        self.gram = (x @ x.T) * documents.different
        self.by_sample = self.gram @ member  # (samples, documents) sum over j of document b of K_ij
        self.by_document = member.T @ self.by_sample
        # For i of a and any c: K_ij over j of documents b that are not c, each as often as there
        # are fourth samples of none of a, b and c.
        fourth = documents.n - (member @ s)[:, None] - s[None]
        whole = self.by_sample.sum(axis=1, keepdims=True) - self.by_sample
        by_size = (self.by_sample @ s)[:, None] - self.by_sample * s
        self.with_fourth = fourth * whole - by_size


def hsic(k: PairSums, m: PairSums) -> float:
    """HSIC of two layers over the same samples."""
    pairs = (k.documents.completed * k.gram * m.gram).sum()
    triples = (k.with_fourth * m.by_sample).sum()
    # Four of four documents: all, less those that share one.
    a, b = k.by_document, m.by_document
    fours = a.sum() * b.sum() - 4 * (a.sum(0) * b.sum(0)).sum() + 2 * (a * b).sum()
    return float((pairs + fours - 2 * triples) / k.documents.sets_of_four)


def trace_of_covariance(features: npt.ArrayLike, documents: npt.ArrayLike) -> float:
    """Half the mean squared distance of two samples of different documents."""
    x = np.asarray(features, dtype=np.float64)
    x, labels = x - x.mean(axis=0), np.asarray(documents)
    squared = (x**2).sum(axis=1)
    distances = squared[:, None] + squared[None] - 2 * x @ x.T
    return float(distances[labels[:, None] != labels[None]].mean() / 2)


def brute_force(y: npt.ArrayLike, x: npt.ArrayLike, documents: list[int]) -> float:
    """HSIC from every set of four samples there is; for a dozen samples."""
    k, m = (np.asarray(side, dtype=np.float64) for side in (y, x))
    k, m = k @ k.T, m @ m.T
    terms = [
        k[i, j] * m[i, j] + k[i, j] * m[p, q] - 2 * k[i, j] * m[i, p]
        for i, j, p, q in permutations(range(len(k)), 4)
        if len({documents[i], documents[j], documents[p], documents[q]}) == 4
    ]
    return float(np.mean(terms))
