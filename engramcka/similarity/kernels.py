"""Kernels: tiles of the Gram matrices of all layers at once.

K~ is a Gram matrix with its diagonal set to zero. Features come centred. Knows nothing of
estimators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from engramcka.errors import ComparisonError
from engramcka.similarity.centring import centre
from engramcka.similarity.inputs import Layers
from engramcka.similarity.look import some_samples
from engramcka.similarity.workers import each_layer

Blocks = Sequence[torch.Tensor]  # (layers, samples, width) for each run of equally wide layers

MEDIAN_SAMPLES = 1024  # samples whose distances decide the bandwidth of the RBF kernel
_AT_MEDIAN = math.exp(-0.5)  # the RBF kernel's value at the median distance


def tile_size(n: int) -> int:
    """Rows and columns of a square tile of an (n, n) Gram matrix, a quarter of it to 256."""
    return min(256, max(64, -(-n // 4)))


def tile_ranges(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """The tiles of the upper half of an (n, n) matrix, those on the diagonal included."""
    edges = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for i, rows in enumerate(edges):
        for columns in edges[i:]:
            yield rows, columns


def linear_tile(left: Blocks, right: Blocks, out: torch.Tensor) -> torch.Tensor:
    """Rows of X times rows of X', for every layer.

    Args:
        left: (layers, rows, width) tensors.
        right: (layers, columns, width) tensors.
        out: at least layers * rows * columns numbers, overwritten.

    Returns:
        (all layers, rows, columns), in the memory of out.
    """
    rows, columns = left[0].shape[1], right[0].shape[1]
    count = sum(len(block) for block in left)
    tile = out[: count * rows * columns].view(count, rows, columns)
    first = 0
    for a, b in zip(left, right, strict=True):
        torch.bmm(a, b.mT, out=tile[first : first + len(a)])
        first += len(a)
    return tile


def hollow_tiles(
    blocks: Blocks, bandwidths: torch.Tensor | None
) -> Iterator[tuple[torch.Tensor, slice, slice]]:
    """Square tiles of the upper half of every K~: (layers, rows, columns), which rows and columns.

    Each is overwritten by the next. The kernel is linear, or RBF where there are bandwidths.
    """
    norms = None if bandwidths is None else squared_norms(blocks)
    n = blocks[0].shape[1]
    size = tile_size(n)
    out = blocks[0].new_empty(sum(len(block) for block in blocks) * min(size, n) ** 2)
    for rows, columns in tile_ranges(n, size):
        left = [block[:, rows] for block in blocks]
        tile = linear_tile(left, [block[:, columns] for block in blocks], out)
        if bandwidths is not None and norms is not None:
            rbf_(tile, norms[:, rows], norms[:, columns], bandwidths)
        if rows == columns:
            tile.diagonal(dim1=1, dim2=2).zero_()
        yield tile, rows, columns


def rbf_(
    tile: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, bandwidths: torch.Tensor
) -> None:
    """Turn inner products into exp(-|x_i - x_j|^2 / (2 s^2)) - exp(-1/2), in place.

    The constant changes no unbiased estimate; without it the float32 sums would cancel.

    Args:
        tile: (layers, rows, columns) inner products.
        rows: (layers, rows) squared norms.
        columns: (layers, columns) squared norms.
        bandwidths: (layers,) s of each layer.
    """
    steepness = (-0.5 / bandwidths.to(tile.device) ** 2).to(tile.dtype)[:, None, None]
    tile.mul_(-2).add_(rows[:, :, None]).add_(columns[:, None, :])
    tile.clamp_(min=0).mul_(steepness).exp_().sub_(_AT_MEDIAN)


def squared_norms(blocks: Blocks) -> torch.Tensor:
    """(all layers, samples) squared lengths of the features."""
    return torch.cat([torch.linalg.vector_norm(block, dim=2) for block in blocks]) ** 2


def median_distances(layers: Layers, like: torch.Tensor, seed: int) -> torch.Tensor:
    """(layers,) median distance between two of up to `MEDIAN_SAMPLES` samples; float64.

    Raises:
        ComparisonError: more than half of the pairs of some layer are at distance zero, but not
            all of them: there is no bandwidth to be had from them.
    """
    samples = some_samples(layers.n_samples, MEDIAN_SAMPLES, seed)

    def median_distance(index: int) -> torch.Tensor:
        rest = layers.values_at(index, samples, like.double())
        centre(rest, rest)
        distances = torch.pdist(rest) if rest.device.type == "cpu" else torch.cdist(rest, rest)
        median = distances.flatten().median()
        if median == 0 and distances.max() > 0:
            raise ComparisonError(
                f"{layers.name(index)}: more than half of its samples are the same, so that the "
                'RBF kernel has no bandwidth; use kernel = "linear"'
            )
        return median if median > 0 else torch.ones_like(median)

    return torch.stack(each_layer(median_distance, len(layers), like.device))
