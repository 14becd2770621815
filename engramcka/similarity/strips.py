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
from engramcka.similarity.sums import pair_products, sides
from engramcka.similarity.workers import Scratch

STRIP = 32  # columns on a CPU
_CUDA_STRIP = 256  # on a GPU, where a small product costs as much as its launch
EXTRA = 2  # rows below the samples' own: X' 1, and a direction

Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Sums:
    """Sums over all K~, float64, and what else the products gave."""

    cross: torch.Tensor  # (y layers, x layers): sum_ij K~_ij L~_ij
    own: torch.Tensor  # (layers,): sum_ij K~_ij^2
    rows: torch.Tensor  # (layers, samples): K~ 1
    along: torch.Tensor  # (layers, samples): the features along each layer's direction


def strips_size(n: int, device: torch.device) -> int:
    """Numbers that the strips of one layer of n samples hold."""
    return sum((n - start + EXTRA) * width for start, width in _columns(n, device))


class Strips:
    """The strips of every layer of one batch.

    Args:
        n: samples.
        y_layers: how many.
        x_layers: how many.
        scratch: memory to keep them in.
        like: a tensor of the dtype and on the device to compute with.
    """

    def __init__(
        self, n: int, y_layers: int, x_layers: int, scratch: Scratch, like: torch.Tensor
    ) -> None:
        layers = y_layers + x_layers  # y's first
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
        self._extra = [strip[:, -EXTRA:] for strip in self._strips]
        self._sides = [part for below in self._below for part in sides(below, y_layers)]

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

    def linear_sums(self) -> Sums:
        """Sums over K~ of the linear kernel; the strips are changed."""
        totals, along = torch.cat(self._extra, dim=2).unbind(1)
        rows = totals.double()
        rows -= self._lengths()
        for square in self._squares:
            square.tril_(-1)
        return self._sums(rows, along)

    def rbf_sums(self, bandwidths: torch.Tensor) -> Sums:
        """Sums over K~ of the RBF kernel; the strips are changed.

        Args:
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
        along = torch.cat(self._extra, dim=2)[:, 1]
        return self._sums(rows, along)

    def _lengths(self) -> torch.Tensor:
        """(layers, samples) squared lengths of the features."""
        return torch.cat(self._diagonals, dim=1)

    def _sums(self, rows: torch.Tensor, along: torch.Tensor) -> Sums:
        cross, own = pair_products(self._sides)
        # The strips hold each pair of samples once.
        return Sums(cross.mul_(2), own.mul_(2), rows, along)


def _columns(n: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """(first sample, columns) of each strip."""
    width = STRIP if device.type == "cpu" else _CUDA_STRIP
    for start in range(0, n, width):
        yield start, min(width, n - start)
