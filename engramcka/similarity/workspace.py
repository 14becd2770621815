"""Memory for one batch, cut up once: a thread uses its own again for every batch.

Layers are centred a few at a time, so that their features stay in a core's cache, and multiplied
a few more at a time: between two calls a thread may have to wait for the others. Knows nothing of
estimators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from engramcka.similarity.centring import centred_part
from engramcka.similarity.diagnostics import row_blocks, squares
from engramcka.similarity.inputs import Layers
from engramcka.similarity.strips import EXTRA, Product, Strips, strips_size
from engramcka.similarity.workers import Scratch

_CPU_BYTES = 2**22  # of features multiplied at once
_CPU_CACHE = 2**21  # of features centred at once
_CUDA_BYTES = 2**28  # of both


@dataclass(frozen=True)
class _Piece:
    """A few equally wide layers of one side, and where their features go."""

    side: Layers
    layers: range
    features: torch.Tensor  # (layers, samples, width)
    blocks: list[torch.Tensor]  # the same, cut into blocks of samples
    totals: torch.Tensor  # (layers, width), the row below the features


@dataclass(frozen=True)
class _Part:
    """Pieces of one side that are multiplied together."""

    pieces: list[_Piece]
    directions: torch.Tensor  # (layers, width), the row below the totals
    leading: torch.Tensor  # (layers, width), what belongs there
    products: list[Product]


class Workspace:
    """Memory for batches of n samples.

    Args:
        y: one model.
        x: the other.
        n: samples.
        scratch: memory to take.
        like: a tensor of the dtype and on the device to compute with.
    """

    def __init__(self, y: Layers, x: Layers, n: int, scratch: Scratch, like: torch.Tensor) -> None:
        self.strips = Strips(n, len(y) + len(x), scratch, like)
        self._like, self._scratch = like, scratch
        self._parts = [
            self._part(side, layers, n, before)
            for side, before in ((y, 0), (x, len(y)))
            for layers in _parts(side, n, like)
        ]

    def _part(self, side: Layers, layers: range, n: int, before: int) -> _Part:
        shape = (len(layers), n + EXTRA, side.widths[layers[0]])
        rows = self._scratch.empty("features", shape, self._like)
        where = slice(before + layers.start, before + layers.stop)
        leading = torch.stack([side.directions[index] for index in layers]).to(self._like)
        products = self.strips.products(rows, where)
        step = _layers_in(_CPU_CACHE, shape[2], n, self._like)
        pieces = []
        for start in range(0, len(layers), step):
            piece = slice(start, start + step)
            features, totals = rows[piece, :n], rows[piece, n]
            blocks = row_blocks(features)
            pieces.append(_Piece(side, layers[piece], features, blocks, totals))
        return _Part(pieces, rows[:, n + 1], leading, products)

    def fill(self, start: int, stop: int) -> list[torch.Tensor]:
        """Fill the strips of all layers with samples start to stop.

        Returns:
            (layers, width) sums of squares of the centred features, a few layers each, in order.
        """
        columns = []
        for part in self._parts:
            for piece in part.pieces:
                centred_part(piece.side, piece.layers, start, stop, piece.features)
                torch.sum(piece.features, 1, out=piece.totals)
                columns.append(squares(piece.blocks, self._scratch))
            part.directions.copy_(part.leading)
            for left, right, out in part.products:
                torch.bmm(left, right, out=out)
        return columns


def workspace_bytes(widths: Sequence[int], n: int, like: torch.Tensor) -> int:
    """Memory that a `Workspace` takes, for layers of these widths, y's and x's."""
    strips = len(widths) * strips_size(n, like.device)
    widest = (n + EXTRA) * max(widths) * like.element_size()
    return strips * like.element_size() + 2 * max(widest, _bytes(_CPU_BYTES, like))


def _parts(side: Layers, n: int, like: torch.Tensor) -> Iterator[range]:
    """As many equally wide layers as are multiplied together."""
    for first, last, width in side.runs():
        step = _layers_in(_CPU_BYTES, width, n, like)
        for start in range(first, last, step):
            yield range(start, min(start + step, last))


def _layers_in(cpu_bytes: int, width: int, n: int, like: torch.Tensor) -> int:
    """How many layers of n samples fit, at least one."""
    return max(1, _bytes(cpu_bytes, like) // ((n + EXTRA) * width * like.element_size()))


def _bytes(cpu_bytes: int, like: torch.Tensor) -> int:
    return cpu_bytes if like.device.type == "cpu" else _CUDA_BYTES
