"""The null distribution: HSIC when the rows of x are shuffled, so that nothing links them to y's.

Rows are shuffled within blocks of up to 256 samples, so that a tile of a shuffled Gram matrix is
the tile shuffled: no product is computed twice. Any such group of shuffles gives a valid p value
where samples are exchangeable (Lehmann and Romano 2005, theorem 15.2.1). A layer's HSIC with
itself does not change under a shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import hsic
from engramcka.similarity.documents import Ints
from engramcka.similarity.exact import Problem, whole_rows
from engramcka.similarity.gram_tiles import centred_at, cross_products, hollow_tiles, tile_size
from engramcka.similarity.minibatch import batch_portions, held_windows
from engramcka.similarity.parallel import Share, ordered_map, split_balanced, split_consecutive
from engramcka.similarity.prepare import Prepared
from engramcka.similarity.routes import (
    TileRow,
    each_row,
    portions_held,
    row_costs,
    row_portions,
    tiles,
)

_MAX_PORTIONS = 64

Blocks = list[tuple[int, int]]  # (start, stop) of each block of samples


@dataclass(frozen=True)
class Shuffles:
    """How many shuffles, from which seed."""

    count: int
    seed: int
    batch: int = 0  # that they are of

    def within(self, blocks: Blocks, device: torch.device) -> list[torch.Tensor]:
        """(count, block's samples) orders of each block's samples; the same at every call."""
        orders = []
        for start, stop in blocks:
            key = [self.seed, self.batch, start]
            random = np.random.default_rng(key).random((self.count, stop - start))
            orders.append(torch.from_numpy(np.argsort(random, axis=1)).to(device))
        return orders


def minibatch_null(
    y: Prepared,
    x: Prepared,
    batches: Sequence[Ints],
    bandwidths: torch.Tensor | None,
    shuffles: Shuffles,
    like: torch.Tensor,
    share: Share,
) -> Float:
    """HSIC_1 of every pair, summed over batches, for each shuffle.

    Args:
        y: one model.
        x: the other.
        batches: the samples of each.
        bandwidths: of the RBF kernel; None for the linear one.
        shuffles: how many.
        like: a tensor of the dtype and on the device to compute with.
        share: which batches are done here.

    Returns:
        (shuffles, y layers, x layers) float64.
    """
    most = min(_MAX_PORTIONS, portions_held(8 * shuffles.count * len(y) * len(x)))
    portions = batch_portions(len(batches), most)
    largest = max(map(len, batches))

    def batch(number: int) -> Float:
        own = replace(shuffles, batch=number)
        return _batch_null(y, x, batches[number], bandwidths, own, like)

    def each(numbers: Iterable[int]) -> Iterator[Float]:
        for window in held_windows(y, x, batches, list(numbers), share.ranks):
            yield from ordered_map(
                batch,
                window,
                count=len(batches),
                part_bytes=2 * sum(y.widths + x.widths) * largest * like.element_size(),
                device=like.device,
            )

    def work(mine: list[int]) -> Iterator[Float]:
        found = each(number for portion in mine for number in portions[portion])
        for portion in mine:
            yield _total(islice(found, len(portions[portion])))
        next(found, None)  # at its end it gives its threads back

    costs = [float(sum(len(batches[n]) for n in portion)) for portion in portions]
    return _total(share.ordered_gather(costs, split_consecutive, work))


def full_null(problem: Problem, shuffles: Shuffles, share: Share) -> Float:
    """HSIC over all samples of every pair, for each shuffle: (shuffles, y layers, x layers)."""
    orders = shuffles.within(problem.blocks, problem.like.device)

    def row_products(row: TileRow) -> tuple[int, Float]:
        parts = (
            _shuffled(part, len(problem.y), orders[row.block], orders[other], other == row.block)
            for other, tile in tiles(problem, row)
            for _, part in problem.weighted(row.block, other, tile)
        )
        return row.block, _total(part.cpu().numpy() for part in parts)

    shape = (shuffles.count, len(problem.y), len(problem.x))
    portions = row_portions(problem, 8 * math.prod(shape))

    def work(mine: list[int]) -> list[Float]:
        sums = {number: np.zeros(shape) for number in mine}
        owner = {block: number for number in mine for block in portions[number]}
        for block, products in each_row(problem, row_products, owner):
            sums[owner[block]] += products
        return list(sums.values())

    inner = _total(share.ordered_gather(row_costs(problem, portions), split_balanced, work))
    weights = (hsic.unbiased if problem.hollow else hsic.biased)(float(problem.n))
    return _hsic(inner, whole_rows(problem), len(problem.y), orders, weights)


def _batch_null(
    y: Prepared,
    x: Prepared,
    samples: Ints,
    bandwidths: torch.Tensor | None,
    shuffles: Shuffles,
    like: torch.Tensor,
) -> Float:
    n = len(samples)
    size = tile_size(n)
    orders = shuffles.within([(a, min(a + size, n)) for a in range(0, n, size)], like.device)
    which = torch.from_numpy(samples)
    features = [*centred_at(y, which, like), *centred_at(x, which, like)]
    rows = like.new_zeros((len(y) + len(x), n), dtype=torch.float64)
    inner = like.new_zeros((shuffles.count, len(y), len(x)), dtype=torch.float64)
    for tile, i, j in hollow_tiles(features, bandwidths):
        rows[:, i] += tile.sum(2, dtype=torch.float64)
        if i != j:
            rows[:, j] += tile.sum(1, dtype=torch.float64)
        pair = orders[i.start // size], orders[j.start // size]
        inner += _shuffled(tile, len(y), *pair, i == j)
    weights = hsic.unbiased(float(n))
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
    totals = rows.sum(1).cpu().numpy()
    return hsic.combine_cross(inner, shuffled.cpu().numpy(), totals, weights)


def _total(parts: Iterable[Float]) -> Float:
    iterator = iter(parts)
    result = next(iterator)
    for part in iterator:
        result = result + part
    return result
