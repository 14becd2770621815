"""Memory for one batch, cut up once: a thread uses its own again for every batch.

Layers are centred and multiplied a few at a time, so that their features stay in a core's cache
from the first use to the last. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engramcka.similarity.centring import centred_part
from engramcka.similarity.diagnostics import row_blocks, squares
from engramcka.similarity.inputs import Layers
from engramcka.similarity.strips import EXTRA, Product, Strips, strips_size
from engramcka.similarity.workers import Scratch

_CPU_BYTES = 2**22  # of features worked on at once
_CUDA_BYTES = 2**28


@dataclass(frozen=True)
class _Part:
    """A few equally wide layers of one side, and where their features go."""

    side: Layers
    layers: range
    features: torch.Tensor  # (layers, samples, width)
    blocks: list[torch.Tensor]  # the same, cut into blocks of samples
    totals: torch.Tensor  # (layers, width), the row below the features
    directions: torch.Tensor  # (layers, width), the row below that
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
        features, totals, directions = rows[:, :n], rows[:, n], rows[:, n + 1]
        blocks = row_blocks(features)
        return _Part(side, layers, features, blocks, totals, directions, leading, products)

    def fill(self, start: int, stop: int) -> list[torch.Tensor]:
        """Fill the strips of all layers with samples start to stop.

        Returns:
            (layers, width) sums of squares of the centred features, a few layers each, in order.
        """
        columns = []
        for part in self._parts:
            centred_part(part.side, part.layers, start, stop, part.features)
            torch.sum(part.features, 1, out=part.totals)
            part.directions.copy_(part.leading)
            columns.append(squares(part.blocks, self._scratch))
            for left, right, out in part.products:
                torch.bmm(left, right, out=out)
        return columns


def workspace_bytes(y: Layers, x: Layers, n: int, like: torch.Tensor) -> int:
    """Memory that a `Workspace` takes."""
    strips = (len(y) + len(x)) * strips_size(n, like.device)
    widest = (n + EXTRA) * max(y.widths + x.widths) * like.element_size()
    return strips * like.element_size() + 2 * max(widest, _part_bytes(like))


def _parts(side: Layers, n: int, like: torch.Tensor) -> Iterator[range]:
    """As many equally wide layers as fit, at least one."""
    for first, last, width in side.runs():
        step = max(1, _part_bytes(like) // ((n + EXTRA) * width * like.element_size()))
        for start in range(first, last, step):
            yield range(start, min(start + step, last))


def _part_bytes(like: torch.Tensor) -> int:
    return _CPU_BYTES if like.device.type == "cpu" else _CUDA_BYTES
