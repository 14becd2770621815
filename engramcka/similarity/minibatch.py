"""The minibatch estimator: unbiased HSIC of every batch, to be summed over batches.

Nguyen et al. 2021 (equations 2 and 3): CKA is the ratio of sums of HSIC_1 over batches. Gives
HSIC values a batch; knows nothing of intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engramcka.similarity import hsic
from engramcka.similarity.inputs import Layers
from engramcka.similarity.kernels import centred, linear_tiles

MIN_BATCH = 4  # HSIC_1 divides by n (n - 3)
FLOAT64_BELOW = 32  # samples: a small batch cancels more, and costs nothing in float64
MAX_CONDITION = 8.0  # of float32 sums; above it the batch is done once more in float64
_CHUNK = 4096  # products added up in float32 before float64 takes over


def batch_ranges(n: int, batch_size: int) -> list[tuple[int, int]]:
    """(start, stop) of each batch; a last one of fewer than 4 samples joins the one before."""
    edges = [*range(0, n, batch_size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < MIN_BATCH:
        del edges[-2]
    return list(zip(edges[:-1], edges[1:], strict=True))


def batch_hsic(
    y: Layers, x: Layers, batch_size: int, device: torch.device, dtype: torch.dtype
) -> Iterator[hsic.Hsic]:
    """HSIC_1 of every pair of layers, a batch at a time, in order."""
    for start, stop in batch_ranges(y.n_samples, batch_size):
        small = stop - start < FLOAT64_BELOW
        first_dtype = torch.float64 if small else dtype
        values = hsic.unbiased(_sums(y, x, start, stop, torch.empty(0, dtype=first_dtype, device=device)))
        worst = max(values.y_condition.max(), values.x_condition.max())
        if first_dtype != torch.float64 and not worst <= MAX_CONDITION:
            values = hsic.unbiased(
                _sums(y, x, start, stop, torch.empty(0, dtype=torch.float64, device=device))
            )
        yield values


def _sums(y: Layers, x: Layers, start: int, stop: int, like: torch.Tensor) -> hsic.PairSums:
    """The sums over K~ and L~ of one batch."""
    blocks = [*centred(y, start, stop, like), *centred(x, start, stop, like)]
    n, rows_of_y, count = stop - start, len(y), len(y) + len(x)
    cross = like.new_zeros((len(y), len(x)), dtype=torch.float64)
    own = like.new_zeros(count, dtype=torch.float64)
    squares = like.new_zeros((count, n), dtype=torch.float64)
    for tile in linear_tiles(blocks):
        weight = 2
        if tile.on_diagonal:
            size = tile.rows.stop - tile.rows.start
            diagonal = tile.values.view(count, size, size).diagonal(dim1=1, dim2=2)
            squares[:, tile.rows] = diagonal.double()
            diagonal.zero_()
            weight = 1
        for chunk in tile.values.split(_CHUNK, dim=1):
            cross += weight * (chunk[:rows_of_y] @ chunk[rows_of_y:].T)
            own += weight * chunk.square().sum(1)
    sums = [torch.bmm(block, block.sum(1)[:, :, None])[:, :, 0] for block in blocks]
    rows = torch.cat(sums).double() - squares  # K~ 1 = X (X' 1) - diagonal of K
    return _pair_sums(n, rows_of_y, cross, own, rows)


def _pair_sums(
    n: int, rows_of_y: int, cross: torch.Tensor, own: torch.Tensor, rows: torch.Tensor
) -> hsic.PairSums:
    y, x = rows[:rows_of_y], rows[rows_of_y:]
    values = (
        torch.tensor(float(n), dtype=torch.float64),
        cross,
        own[:rows_of_y],
        own[rows_of_y:],
        y @ x.T,
        (y * y).sum(1),
        (x * x).sum(1),
        y.sum(1),
        x.sum(1),
    )
    return hsic.PairSums(*(value.cpu().numpy() for value in values))
