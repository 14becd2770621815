"""Gram matrices of one batch of samples, for all layers at once, a tile at a time.

The features are centred first: it changes no estimate, and in float32 it is the difference
between a right and a wrong one. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engramcka.similarity.inputs import Layers

TILE = 256  # rows and columns of a tile: sums over one tile are short enough for float32


@dataclass(frozen=True)
class Tile:
    """Rows i and columns j of every layer's Gram matrix."""

    values: torch.Tensor  # (layers, rows * columns)
    rows: slice
    columns: slice

    @property
    def on_diagonal(self) -> bool:
        """Whether the tile is a square on the diagonal, which holds each pair of samples twice."""
        return self.rows == self.columns


def centred(layers: Layers, start: int, stop: int, like: torch.Tensor) -> list[torch.Tensor]:
    """Samples start to stop of every layer, each feature less its mean over these samples.

    Args:
        layers: one model.
        start: first sample.
        stop: last sample + 1.
        like: a tensor of the dtype and on the device to compute with.

    Returns:
        One (layers of the run, samples, width) tensor for each run of equally wide layers.
    """
    blocks = []
    for first, last, width in layers.runs():
        block = like.new_empty((last - first, stop - start, width))
        for index in range(first, last):
            values = layers.read(index, start, stop).to(like)
            torch.sub(values, values.mean(0), out=block[index - first])
        blocks.append(block)
    return blocks


def tile_ranges(n: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """The tiles of the upper half of an (n, n) matrix, those on the diagonal included."""
    edges = [slice(start, min(start + tile, n)) for start in range(0, n, tile)]
    for i, rows in enumerate(edges):
        for columns in edges[i:]:
            yield rows, columns


def linear_tiles(blocks: list[torch.Tensor], tile: int = TILE) -> Iterator[Tile]:
    """Tiles of the upper half of X X' of every layer; each is overwritten by the next.

    Args:
        blocks: (layers, samples, width) tensors, all of the same samples.
        tile: rows and columns of a tile.
    """
    n = blocks[0].shape[1]
    count = sum(len(block) for block in blocks)
    buffer = blocks[0].new_empty(count * min(tile, n) ** 2)
    for rows, columns in tile_ranges(n, tile):
        shape = (count, rows.stop - rows.start, columns.stop - columns.start)
        values = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
        first = 0
        for block in blocks:
            last = first + len(block)
            torch.bmm(block[:, rows], block[:, columns].mT, out=values[first:last])
            first = last
        yield Tile(values.view(count, -1), rows, columns)
