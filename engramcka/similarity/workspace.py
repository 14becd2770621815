"""Memory for one batch, cut up once: a thread uses its own again for every batch.

Several layers are worked on at once: between two calls a thread may have to wait for the others.
Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from engramcka.similarity.centring import centre
from engramcka.similarity.diagnostics import row_blocks, squares
from engramcka.similarity.inputs import Layers
from engramcka.similarity.massive import candidates, row_sums_of
from engramcka.similarity.strips import Product, Strips, extra_rows, strips_size
from engramcka.similarity.workers import Scratch

_CPU_BYTES = 2**22  # of features worked on at once
_CUDA_BYTES = 2**28


@dataclass(frozen=True)
class _Part:
    """A few equally wide layers of one side, and where their features go."""

    side: Layers
    layers: range
    places: tuple[torch.Tensor, ...]  # (samples, width) a layer
    blocks: list[tuple[torch.Tensor, torch.Tensor]]  # the same, as `squares` takes them
    columns: torch.Tensor  # (layers, width), sums of squares
    groups: list[tuple[torch.Tensor, torch.Tensor]]  # their features, and the row for the sum
    shifts: tuple[torch.Tensor, ...]  # (width,) a layer, in the row below the sums
    centres: torch.Tensor  # (layers, width), from where they are
    directions: torch.Tensor  # (layers, width), the row below that
    leading: torch.Tensor  # (layers, width), what belongs there
    where: slice  # of these layers among all
    features: torch.Tensor  # (layers, samples, width), the places together
    products: list[Product]


@dataclass(frozen=True)
class Filled:
    """What is known of a batch's features once they are centred."""

    columns: torch.Tensor  # (sum of widths,) sums of squares; overwritten by the next batch
    farthest: torch.Tensor  # (2, layers, candidates), see `massive.row_sums_of`
    shifts: torch.Tensor  # (layers,) squared distance of the mean from the layer's centre


class Workspace:
    """Memory for batches whose samples are in groups with these edges.

    Args:
        y: one model.
        x: the other.
        edges: first sample of each group, and how many samples there are: (0, n) for one group.
        scratch: memory to take.
        like: a tensor of the dtype and on the device to compute with.
    """

    def __init__(
        self, y: Layers, x: Layers, edges: Sequence[int], scratch: Scratch, like: torch.Tensor
    ) -> None:
        self.strips = Strips(edges, len(y), len(x), scratch, like)
        self._edges, self._like, self._scratch = tuple(edges), like, scratch
        self._n, self._rows = edges[-1], edges[-1] + extra_rows(edges)
        dimension, most = self._rows * like.element_size(), _most_bytes(like)
        parts = [(side, layers) for side in (y, x) for layers in side.parts(dimension, most)]
        sizes = [len(layers) * side.widths[layers[0]] for side, layers in parts]
        self._columns = like.new_empty(sum(sizes))
        places = zip(parts, self._columns.split_with_sizes(sizes), strict=True)
        self._parts = [
            self._part(side, layers, 0 if side is y else len(y), columns)
            for (side, layers), columns in places
        ]

    def _part(self, side: Layers, layers: range, before: int, columns: torch.Tensor) -> _Part:
        width = side.widths[layers[0]]
        rows = self._scratch.empty("features", (len(layers), self._rows, width), self._like)
        features = rows[:, : self._n]
        where = slice(before + layers.start, before + layers.stop)
        groups = [features[:, start:stop] for start, stop in pairwise(self._edges)]
        return _Part(
            side,
            layers,
            places=features.unbind(),
            blocks=row_blocks(features, self._scratch),
            columns=columns.view(len(layers), width),
            groups=[(group, rows[:, self._n + number]) for number, group in enumerate(groups)],
            shifts=rows[:, -2].unbind(),
            centres=torch.stack(side.centres[layers.start : layers.stop]).to(self._like),
            directions=rows[:, -1],
            leading=torch.stack(side.directions[layers.start : layers.stop]).to(self._like),
            where=where,
            features=features,
            products=self.strips.products(rows, where),
        )

    def fill(self, samples: torch.Tensor) -> Filled:
        """Fill the strips of all layers with these samples.

        Args:
            samples: (n,) which ones, those of a group together.
        """
        farthest, shifts = [], []
        for part in self._parts:
            for layer, place, shift, middle in zip(
                part.layers, part.places, part.shifts, part.centres, strict=True
            ):
                part.side.gather(layer, samples, place)
                torch.sub(centre(place, place), middle, out=shift)
            shifts += [torch.linalg.vecdot(shift, shift) for shift in part.shifts]
            for group, total in part.groups:
                torch.sum(group, 1, out=total)
            part.directions.copy_(part.leading)
            squares(part.blocks, out=part.columns)
            for left, right, out in part.products:
                torch.bmm(left, right, out=out)
            lengths = self.strips.lengths(part.where)
            farthest.append(row_sums_of(part.features, lengths, candidates(self._n)))
        return Filled(self._columns, torch.cat(farthest, dim=1), torch.stack(shifts))


def workspace_bytes(widths: Sequence[int], edges: Sequence[int], like: torch.Tensor) -> int:
    """Memory that a `Workspace` takes, for layers of these widths, y's and x's."""
    strips = len(widths) * strips_size(edges, like.device)
    widest = (edges[-1] + extra_rows(edges)) * max(widths) * like.element_size()
    return strips * like.element_size() + 2 * max(widest, _most_bytes(like))


def _most_bytes(like: torch.Tensor) -> int:
    """Features that are worked on at once, unless one layer has more."""
    return _CPU_BYTES if like.device.type == "cpu" else _CUDA_BYTES
