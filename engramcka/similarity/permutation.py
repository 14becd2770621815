"""The null distribution: HSIC when the rows of x are shuffled, so that nothing links them to y's.

Rows are shuffled within blocks of up to 256 samples, so that a tile of a shuffled Gram matrix is
the tile shuffled: no product is made again. Any such group of shuffles gives a valid p value
where samples are exchangeable (Lehmann and Romano 2005, theorem 15.2.1). A layer's HSIC with
itself does not change under a shuffle. Knows nothing of p values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import hsic
from engramcka.similarity.centring import centred
from engramcka.similarity.full import Problem
from engramcka.similarity.gram_route import TileRow, each_row, tiles
from engramcka.similarity.inputs import Layers
from engramcka.similarity.kernels import hollow_tiles, tile_size
from engramcka.similarity.rows import whole_rows
from engramcka.similarity.sums import cross_products
from engramcka.similarity.workers import ordered_map

Blocks = list[tuple[int, int]]  # (start, stop) of each block of samples


@dataclass(frozen=True)
class Shuffles:
    """How many shuffles, from which seed."""

    count: int
    seed: int

    def within(self, blocks: Blocks, device: torch.device) -> list[torch.Tensor]:
        """(count, block's samples) orders of each block's samples; the same at every call."""
        orders = []
        for start, stop in blocks:
            random = np.random.default_rng([self.seed, start]).random((self.count, stop - start))
            orders.append(torch.from_numpy(np.argsort(random, axis=1)).to(device))
        return orders


def minibatch_null(
    y: Layers,
    x: Layers,
    ranges: Sequence[tuple[int, int]],
    bandwidths: torch.Tensor | None,
    shuffles: Shuffles,
    like: torch.Tensor,
) -> Float:
    """HSIC_1 of every pair, summed over batches, for each shuffle.

    Args:
        y: one model.
        x: the other.
        ranges: (start, stop) of each batch.
        bandwidths: of the RBF kernel; None for the linear one.
        shuffles: how many.
        like: a tensor of the dtype and on the device to compute with.

    Returns:
        (shuffles, y layers, x layers) float64.
    """

    def batch(edges: tuple[int, int]) -> Float:
        return _batch_null(y, x, edges, bandwidths, shuffles, like)

    largest = max(stop - start for start, stop in ranges)
    return _total(
        ordered_map(
            batch,
            ranges,
            count=len(ranges),
            part_bytes=2 * sum(y.widths + x.widths) * largest * like.element_size(),
            device=like.device,
        )
    )


def full_null(problem: Problem, shuffles: Shuffles) -> Float:
    """HSIC over all samples of every pair, for each shuffle: (shuffles, y layers, x layers)."""
    orders = shuffles.within(problem.blocks, problem.like.device)

    def row_products(row: TileRow) -> Float:
        parts = (
            _shuffled(tile, len(problem.y), orders[row.block], orders[other], other == row.block)
            for other, tile in tiles(problem, row)
        )
        return _total(part.cpu().numpy() for part in parts)

    inner = _total(each_row(problem, row_products))
    weights = (hsic.unbiased if problem.hollow else hsic.biased)(np.asarray(float(problem.n)))
    return _hsic(inner, whole_rows(problem), len(problem.y), orders, weights)


def _batch_null(
    y: Layers,
    x: Layers,
    edges: tuple[int, int],
    bandwidths: torch.Tensor | None,
    shuffles: Shuffles,
    like: torch.Tensor,
) -> Float:
    start, stop = edges
    size = tile_size(stop - start)
    blocks = [(first, min(first + size, stop)) for first in range(start, stop, size)]
    orders = shuffles.within(blocks, like.device)
    features = [*centred(y, start, stop, like), *centred(x, start, stop, like)]
    rows = like.new_zeros((len(y) + len(x), stop - start), dtype=torch.float64)
    inner = like.new_zeros((shuffles.count, len(y), len(x)), dtype=torch.float64)
    for tile, i, j in hollow_tiles(features, bandwidths):
        rows[:, i] += tile.sum(2, dtype=torch.float64)
        if i != j:
            rows[:, j] += tile.sum(1, dtype=torch.float64)
        pair = orders[i.start // size], orders[j.start // size]
        inner += _shuffled(tile, len(y), *pair, i == j)
    weights = hsic.unbiased(np.asarray(float(stop - start)))
    return _hsic(inner.cpu().numpy(), rows, len(y), orders, weights)


def _shuffled(
    tile: torch.Tensor,
    y_count: int,
    row_orders: torch.Tensor,
    column_orders: torch.Tensor,
    on_diagonal: bool,
) -> torch.Tensor:
    """(shuffles, y layers, x layers) inner products of y's tiles with x's shuffled tiles."""
    y, x = tile[:y_count], tile[y_count:]
    products = [
        cross_products(y, x[:, rows][:, :, columns])
        for rows, columns in zip(row_orders, column_orders, strict=True)
    ]
    return torch.stack(products) * (1 if on_diagonal else 2)


def _hsic(
    inner: Float,
    rows: torch.Tensor,
    y_count: int,
    orders: list[torch.Tensor],
    weights: hsic.Weights,
) -> Float:
    """HSIC of each shuffle from its inner products and the unshuffled (layers, samples) rows."""
    y, x = rows[:y_count], rows[y_count:]
    shuffled, start = torch.zeros(inner.shape, dtype=torch.float64, device=rows.device), 0
    for block in orders:
        stop = start + block.shape[1]
        for index, order in enumerate(block):
            shuffled[index] += y[:, start:stop] @ x[:, start + order].T
        start = stop
    totals = [part.sum(1).cpu().numpy() for part in (y, x)]
    return hsic.combine_cross(inner, shuffled.cpu().numpy(), totals[0], totals[1], weights)


def _total(parts: Iterable[Float]) -> Float:
    iterator = iter(parts)
    result = next(iterator)
    for part in iterator:
        result = result + part
    return result
