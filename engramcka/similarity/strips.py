"""The lower half of one batch's Gram matrices, and the sums that HSIC_1 needs of it.

A strip holds a few columns and the rows from the first of them on: a square on the diagonal and
all that is below it. Narrow strips make little more than half of a matrix. Two more rows go
through the same product: X (X' 1), the row sums, and X along a direction. Strips are filled for a
few layers at a time, while their features are in the cache, and added up for all at once.
K~ is a Gram matrix with its diagonal set to zero. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engramcka.similarity.kernels import rbf_
from engramcka.similarity.sums import chunks, pair_products
from engramcka.similarity.workers import Scratch

STRIP = 32  # columns on a CPU
_CUDA_STRIP = 256  # on a GPU, where a small product costs as much as its launch
EXTRA = 2  # rows below the samples' own: X' 1, and a direction

Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Sums:
    """Sums over all K~; float64."""

    cross: torch.Tensor  # (y layers, x layers): sum_ij K~_ij L~_ij
    own: torch.Tensor  # (layers,): sum_ij K~_ij^2
    rows: torch.Tensor  # (layers, samples): K~ 1


def strips_size(n: int, device: torch.device) -> int:
    """Numbers that the strips of one layer of n samples hold."""
    return sum((n - start + EXTRA) * width for start, width in _columns(n, device))


class Strips:
    """The strips of every layer of one batch.

    Args:
        n: samples.
        layers: of y and then of x.
        scratch: memory to keep them in.
        like: a tensor of the dtype and on the device to compute with.
    """

    def __init__(self, n: int, layers: int, scratch: Scratch, like: torch.Tensor) -> None:
        memory = scratch.empty("strips", (layers * strips_size(n, like.device),), like)
        self._columns = list(_columns(n, like.device))
        self._strips: list[torch.Tensor] = []  # each (layers, rows, columns) and contiguous
        first = 0
        for start, width in self._columns:
            last = first + layers * (n - start + EXTRA) * width
            self._strips.append(memory[first:last].view(layers, n - start + EXTRA, width))
            first = last
        # Every view of them is made once, not once a batch.
        self._below = [strip[:, :-EXTRA] for strip in self._strips]
        self._squares = [strip[:, : strip.shape[2]] for strip in self._strips]
        self._diagonals = [square.diagonal(dim1=1, dim2=2) for square in self._squares]
        self._totals = [strip[:, -EXTRA] for strip in self._strips]
        self._along = [strip[:, -1] for strip in self._strips]
        self._parts = [part for below in self._below for part in chunks(below)]

    def products(self, features: torch.Tensor, layers: slice) -> list[Product]:
        """The products that write the strips of X X' of some layers: left, right and result.

        Args:
            features: (layers, samples + EXTRA, width): X, and below it X' 1 and a direction.
            layers: which these are.
        """
        return [
            (features[:, start:], features[:, start : start + width].mT, strip[layers])
            for (start, width), strip in zip(self._columns, self._strips, strict=True)
        ]

    def along(self) -> torch.Tensor:
        """(layers, samples) features along each layer's direction."""
        return torch.cat(self._along, dim=1)

    def linear_sums(self, y_count: int) -> Sums:
        """Sums over K~ of the linear kernel; the strips are changed.

        Args:
            y_count: layers of y.
        """
        rows = torch.cat(self._totals, dim=1).double()
        rows -= self._lengths()
        for square in self._squares:
            square.tril_(-1)
        return self._sums(y_count, rows)

    def rbf_sums(self, y_count: int, bandwidths: torch.Tensor) -> Sums:
        """Sums over K~ of the RBF kernel; the strips are changed.

        Args:
            y_count: layers of y.
            bandwidths: (layers,) float64.
        """
        norms = self._lengths()
        rows = torch.zeros_like(norms, dtype=torch.float64)
        for strip, square, (start, width) in zip(
            self._below, self._squares, self._columns, strict=True
        ):
            below, columns = slice(start, None), slice(start, start + width)
            rbf_(strip, norms[:, below], norms[:, columns], bandwidths)
            square.tril_(-1)
            rows[:, below] += strip.sum(2, dtype=torch.float64)
            rows[:, columns] += strip.sum(1, dtype=torch.float64)
        return self._sums(y_count, rows)

    def _lengths(self) -> torch.Tensor:
        """(layers, samples) squared lengths of the features."""
        return torch.cat(self._diagonals, dim=1)

    def _sums(self, y_count: int, rows: torch.Tensor) -> Sums:
        cross, own = pair_products(self._parts, y_count)
        return Sums(2 * cross, 2 * own, rows)  # the strips hold each pair of samples once


def _columns(n: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """(first sample, columns) of each strip."""
    width = STRIP if device.type == "cpu" else _CUDA_STRIP
    for start in range(0, n, width):
        yield start, min(width, n - start)
