"""The lower half of one batch's Gram matrices, and the sums that HSIC_1 needs of it.

A strip holds a few columns and the rows from the first of them on: a square on the diagonal and
all that is below it. Narrow strips make little more than half of a matrix. They are filled
for a few layers at a time, while their features are in the cache, and added up for all at once.
K~ is a Gram matrix with its diagonal set to zero. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engramcka.similarity.kernels import rbf_
from engramcka.similarity.sums import CHUNK, pair_products

STRIP = 32  # columns

Sums = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def strips_size(n: int) -> int:
    """Numbers that the strips of one (n, n) matrix hold, made a multiple of a sum's length."""
    size = sum((n - start) * min(STRIP, n - start) for start in range(0, n, STRIP))
    return -(-size // CHUNK) * CHUNK


def fill(features: torch.Tensor, out: torch.Tensor) -> None:
    """Write the strips of X X' of some layers.

    Args:
        features: (layers, samples, width).
        out: (layers, strips_size(samples)), overwritten.
    """
    n, first = features.shape[1], 0
    for start in range(0, n, STRIP):
        width = min(STRIP, n - start)
        last = first + (n - start) * width
        torch.bmm(
            features[:, start:],
            features[:, start : start + width].mT,
            out=out[:, first:last].view(len(out), n - start, width),
        )
        first = last
    out[:, first:] = 0


def linear_sums(strips: torch.Tensor, rows: torch.Tensor, y_count: int) -> Sums:
    """Sums over K~ of the linear kernel; the strips are changed.

    Args:
        strips: (layers of y and then of x, strips_size(samples)) as `fill` wrote them.
        rows: (layers, samples) row sums of K, see `sums.row_sums`.
        y_count: layers of y.

    Returns:
        (y layers, x layers) sum_ij K~_ij L~_ij; (layers,) sum_ij K~_ij^2; (layers, samples) K~ 1;
        all float64.
    """
    hollow = rows.double()
    for strip, columns in _each(strips, rows.shape[1]):
        square = strip[:, : columns.stop - columns.start]
        hollow[:, columns] -= square.diagonal(dim1=1, dim2=2)
        square.tril_(-1)
    cross, own = pair_products(strips, y_count)
    return 2 * cross, 2 * own, hollow  # the strips hold each pair of samples once


def rbf_sums(
    strips: torch.Tensor, norms: torch.Tensor, bandwidths: torch.Tensor, y_count: int
) -> Sums:
    """Sums over K~ of the RBF kernel, as `linear_sums` gives them.

    Args:
        strips: (layers, strips_size(samples)) as `fill` wrote them.
        norms: (layers, samples) squared lengths of the features.
        bandwidths: (layers,) float64.
        y_count: layers of y.
    """
    total = torch.zeros_like(norms, dtype=torch.float64)
    for strip, columns in _each(strips, norms.shape[1]):
        rows = slice(columns.start, None)
        rbf_(strip, norms[:, rows], norms[:, columns], bandwidths)
        strip[:, : columns.stop - columns.start].tril_(-1)
        total[:, rows] += strip.sum(2, dtype=torch.float64)
        total[:, columns] += strip.sum(1, dtype=torch.float64)
    cross, own = pair_products(strips, y_count)
    return 2 * cross, 2 * own, total


def _each(strips: torch.Tensor, n: int) -> Iterator[tuple[torch.Tensor, slice]]:
    """(layers, rows, columns) of each strip, and which columns."""
    first = 0
    for start in range(0, n, STRIP):
        columns = slice(start, min(start + STRIP, n))
        width = columns.stop - start
        last = first + (n - start) * width
        yield strips[:, first:last].view(len(strips), n - start, width), columns
        first = last
