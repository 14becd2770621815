"""Sums over tiles of Gram matrices: short ones in the tile's own precision, long ones in float64.

Knows neither samples nor estimators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from engramcka.similarity.hsic import PairSums

# Products added up in float32 before float64 takes over. Longer sums lose small products beside
# one large one (a sample of huge norm): with 16384 the error reached 7e-5, with 512 it is 1e-7.
CHUNK = 512

Sides = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # chunks of both models, of y, of x


def chunks(tile: torch.Tensor) -> list[torch.Tensor]:
    """A (layers, rows, columns) tile as (chunks, layers, `CHUNK` numbers), and what is left.

    What is left is (1, layers, numbers). Both are the tile's own memory if a layer's lies together.
    """
    flat = tile.reshape(len(tile), -1)
    whole = flat.shape[1] // CHUNK * CHUNK
    full = flat[:, :whole].view(len(tile), -1, CHUNK).transpose(0, 1)
    rest = flat[:, whole:][None]
    return [part for part in (full, rest) if part.numel()]


def sides(tile: torch.Tensor, y_count: int) -> list[Sides]:
    """What `pair_products` takes, of a (layers of y and then of x, rows, columns) tile."""
    return [(part, part[:, :y_count], part[:, y_count:].mT) for part in chunks(tile)]


def pair_products(parts: Iterable[Sides]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products of every layer's tiles with every other's, by one product for all pairs.

    Args:
        parts: the `sides` of some tiles.

    Returns:
        (y layers, x layers) sum_ij K_ij L_ij, and (layers,) sum_ij K_ij^2; float64.
    """
    cross, lengths = [], []
    for both, y, x in parts:
        cross.append(torch.bmm(y, x))
        lengths.append(torch.linalg.vector_norm(both, dim=2))
    own = torch.cat(lengths).double().square_().sum(0)
    return torch.cat(cross).sum(0, dtype=torch.float64), own


def cross_products(y_tile: torch.Tensor, x_tile: torch.Tensor) -> torch.Tensor:
    """(y layers, x layers) float64 sum_ij K_ij L_ij of two tiles (layers, rows, columns)."""
    pairs = zip(chunks(y_tile), chunks(x_tile), strict=True)
    return torch.cat([torch.bmm(y, x.mT) for y, x in pairs]).sum(0, dtype=torch.float64)


def all_products(parts: torch.Tensor) -> torch.Tensor:
    """(parts, parts) float64 inner products of matrices (parts, rows, columns) with each other."""
    products = [torch.bmm(part, part.mT) for part in chunks(parts)]
    return torch.cat(products).sum(0, dtype=torch.float64)


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


def pair_sums(cross: torch.Tensor, own: torch.Tensor, rows: torch.Tensor) -> PairSums:
    """What the estimators need, in NumPy; each has a leading dimension, sets of samples.

    Args:
        cross: (sets, y layers, x layers) inner products.
        own: (sets, layers) inner products with itself.
        rows: (sets, layers, samples) row sums.
    """
    y, x = rows.split_with_sizes(cross.shape[1:], dim=1)
    values = (cross, own, torch.bmm(y, x.mT), torch.linalg.vecdot(rows, rows), rows.sum(2))
    # One copy for all: from a GPU each would have to wait.
    whole = torch.cat([value.flatten() for value in values]).cpu().numpy()
    parts, start = [], 0
    for value in values:
        parts.append(whole[start : start + value.numel()].reshape(value.shape))
        start += value.numel()
    return PairSums(*parts)
