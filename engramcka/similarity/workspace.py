"""Memory for one batch, cut up once: a thread uses its own again for every batch.

Several layers are worked on at once: between two calls a thread may have to wait for the others.
Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engramcka.similarity.centring import centre
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
    places: tuple[torch.Tensor, ...]  # the same, (samples, width) a layer
    blocks: list[tuple[torch.Tensor, torch.Tensor]]  # the same, as `squares` takes them
    columns: torch.Tensor  # (layers, width), sums of squares
    totals: torch.Tensor  # (layers, width), the row below the features
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
        self.strips = Strips(n, len(y), len(x), scratch, like)
        self._like, self._scratch = like, scratch
        dimension, most = (n + EXTRA) * like.element_size(), _most_bytes(like)
        parts = [(side, layers) for side in (y, x) for layers in side.parts(dimension, most)]
        sizes = [len(layers) * side.widths[layers[0]] for side, layers in parts]
        self._columns = like.new_empty(sum(sizes))
        places = zip(parts, self._columns.split_with_sizes(sizes), strict=True)
        self._parts = [
            self._part(side, layers, n, 0 if side is y else len(y), columns)
            for (side, layers), columns in places
        ]

    def _part(
        self, side: Layers, layers: range, n: int, before: int, columns: torch.Tensor
    ) -> _Part:
        width = side.widths[layers[0]]
        rows = self._scratch.empty("features", (len(layers), n + EXTRA, width), self._like)
        features = rows[:, :n]
        where = slice(before + layers.start, before + layers.stop)
        return _Part(
            side,
            layers,
            features=features,
            places=features.unbind(),
            blocks=row_blocks(features, self._scratch),
            columns=columns.view(len(layers), width),
            totals=rows[:, n],
            directions=rows[:, n + 1],
            leading=torch.stack(side.directions[layers.start : layers.stop]).to(self._like),
            products=self.strips.products(rows, where),
        )

    def fill(self, start: int, stop: int) -> torch.Tensor:
        """Fill the strips of all layers with samples start to stop.

        Returns:
            (sum of widths,) sums of squares of the centred features; overwritten by the next call.
        """
        for part in self._parts:
            centre(part.side.blocks(part.layers, start, stop, self._like), part.places)
            torch.sum(part.features, 1, out=part.totals)
            part.directions.copy_(part.leading)
            squares(part.blocks, out=part.columns)
            for left, right, out in part.products:
                torch.bmm(left, right, out=out)
        return self._columns


def workspace_bytes(widths: Sequence[int], n: int, like: torch.Tensor) -> int:
    """Memory that a `Workspace` takes, for layers of these widths, y's and x's."""
    strips = len(widths) * strips_size(n, like.device)
    widest = (n + EXTRA) * max(widths) * like.element_size()
    return strips * like.element_size() + 2 * max(widest, _most_bytes(like))


def _most_bytes(like: torch.Tensor) -> int:
    """Features that are worked on at once, unless one layer has more."""
    return _CPU_BYTES if like.device.type == "cpu" else _CUDA_BYTES
