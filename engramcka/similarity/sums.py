"""Sums over tiles of Gram matrices: short ones in the tile's own precision, long ones in float64.

Knows neither samples nor estimators.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engramcka.similarity.hsic import PairSums

# Products added up in float32 before float64 takes over. Longer sums lose small products beside
# one large one (a sample of huge norm): with 16384 the error reached 7e-5, with 512 it is 1e-7.
CHUNK = 512


def pair_products(tile: torch.Tensor, y_count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of every layer's tile with every other's, by one product for all pairs.

    Args:
        tile: (layers of y and then of x, rows, columns).
        y_count: layers of y.

    Returns:
        (y layers, x layers) sum_ij K_ij L_ij, and (layers,) sum_ij K_ij^2; float64.
    """
    chunks = _chunks(tile)
    cross = torch.bmm(chunks[:, :y_count], chunks[:, y_count:].mT).double().sum(0)
    own = torch.linalg.vector_norm(chunks, dim=2).double().square().sum(0)
    return cross, own


def cross_products(y_tile: torch.Tensor, x_tile: torch.Tensor) -> torch.Tensor:
    """(y layers, x layers) float64 sum_ij K_ij L_ij of two tiles (layers, rows, columns)."""
    return torch.bmm(_chunks(y_tile), _chunks(x_tile).mT).double().sum(0)


def all_products(parts: torch.Tensor) -> torch.Tensor:
    """(parts, parts) float64 inner products of matrices (parts, rows, columns) with each other."""
    chunks = _chunks(parts)
    return torch.bmm(chunks, chunks.mT).double().sum(0)


def row_sums(blocks: Sequence[torch.Tensor], totals: Sequence[torch.Tensor]) -> torch.Tensor:
    """K 1 = X (X' 1) for some rows of X, from feature space: no Gram matrix is needed.

    Args:
        blocks: (layers, rows, width) tensors.
        totals: (layers, width, sets) tensors: X' 1 over one or more sets of samples.

    Returns:
        (all layers, rows, sets) float64.
    """
    parts = [torch.bmm(block, total) for block, total in zip(blocks, totals, strict=True)]
    return torch.cat(parts).double()


def pair_sums(n: int, cross: torch.Tensor, own: torch.Tensor, rows: torch.Tensor) -> PairSums:
    """What the estimators need, in NumPy.

    Args:
        n: samples.
        cross: (y layers, x layers) inner products.
        own: (layers,) inner products with itself.
        rows: (layers, samples) row sums.
    """
    y, x = rows[: len(cross)], rows[len(cross) :]
    y_self, x_self = own[: len(cross)], own[len(cross) :]
    values = (cross, y_self, x_self, y @ x.T, (y * y).sum(1), (x * x).sum(1), y.sum(1), x.sum(1))
    return PairSums(np.asarray(float(n)), *(value.cpu().numpy() for value in values))


def _chunks(tile: torch.Tensor) -> torch.Tensor:
    """(chunks, layers, at most `CHUNK` numbers) of a tile; with zeros added if they must be."""
    flat = tile.reshape(len(tile), -1)
    count = -(-flat.shape[1] // CHUNK)
    if flat.shape[1] % count:
        flat = torch.nn.functional.pad(flat, (0, count - flat.shape[1] % count))
    return flat.view(len(flat), count, -1).transpose(0, 1)
