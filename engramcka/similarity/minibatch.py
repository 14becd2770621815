"""The minibatch estimator: unbiased HSIC of every batch, to be summed over batches.

Nguyen et al. 2021 (equations 2 and 3): CKA is the ratio of sums of HSIC_1 over batches. Gives
HSIC values a batch; knows nothing of intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch

from engramcka.similarity import hsic
from engramcka.similarity.centring import centred_layer
from engramcka.similarity.diagnostics import Moments, collect, squares
from engramcka.similarity.inputs import Layers
from engramcka.similarity.strips import fill, linear_sums, rbf_sums, strips_size
from engramcka.similarity.sums import pair_sums
from engramcka.similarity.workers import Scratch, ordered_map

MIN_BATCH = 4  # HSIC_1 divides by n (n - 3)
_PART_BYTES = 8 * 2**20  # of features worked on at once: few enough to stay in a core's cache
_FLOAT64_BELOW = 32  # samples: a small batch cancels more, and costs little in float64


def constant_layers(
    y: Layers, x: Layers, start: int, stop: int, doubtful: tuple[hsic.Bool, hsic.Bool]
) -> tuple[hsic.Bool, hsic.Bool] | None:
    """The doubtful layers of y and of x, if all of them are the same for all of these samples."""
    for side, part in zip((y, x), doubtful, strict=True):
        if not all(side.constant(int(index), start, stop) for index in np.flatnonzero(part)):
            return None
    return doubtful


def batch_ranges(n: int, batch_size: int) -> list[tuple[int, int]]:
    """(start, stop) of each batch; a last one of fewer than 4 samples joins the one before."""
    edges = [*range(0, n, batch_size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < MIN_BATCH:
        del edges[-2]
    return list(pairwise(edges))


@dataclass(frozen=True)
class Batch:
    """What one batch gives."""

    values: hsic.Hsic
    moments: Moments
    redone: bool  # in float64, because float32 would not do


@dataclass(frozen=True)
class Minibatch:
    """Two models and how to compare them batch by batch."""

    y: Layers
    x: Layers
    ranges: list[tuple[int, int]]  # of the batches
    bandwidths: torch.Tensor | None  # (layers,) of the RBF kernel; None for the linear one
    like: torch.Tensor  # of the dtype and on the device to compute with
    scratch: Scratch = field(default_factory=Scratch)

    def run(self) -> Iterator[Batch]:
        """HSIC_1 of every pair of layers and the layers' moments, a batch at a time, in order."""
        size = max(stop - start for start, stop in self.ranges)
        numbers = (len(self.y) + len(self.x)) * strips_size(size)
        numbers += 3 * size * max(self.y.widths + self.x.widths)
        yield from ordered_map(
            self.batch,
            self.ranges,
            count=len(self.ranges),
            part_bytes=numbers * self.like.element_size() + _PART_BYTES,
            device=self.like.device,
        )

    def batch(self, edges: tuple[int, int]) -> Batch:
        """HSIC_1 over samples start to stop, in float64 where float32 would not do."""
        start, stop = edges
        wide = self.like.double()
        first = wide if stop - start < _FLOAT64_BELOW else self.like
        result = self._estimate(start, stop, first)
        doubtful = hsic.doubtful(result.values)
        if not any(part.any() for part in doubtful):
            return result
        for side in (self.y, self.x):
            side.raise_if_nonfinite(start, stop)
        if first.dtype == wide.dtype:
            return result
        constant = constant_layers(self.y, self.x, start, stop, doubtful)
        if constant is not None:
            return replace(result, values=hsic.zeroed(result.values, constant[0], constant[1]))
        return replace(self._estimate(start, stop, wide), redone=True)

    def _estimate(self, start: int, stop: int, like: torch.Tensor) -> Batch:
        n, count = stop - start, len(self.y) + len(self.x)
        strips = self.scratch.empty("strips", (count, strips_size(n)), like)
        vectors = like.new_empty((count, n))
        columns, along = [], []
        for first, features, directions in self._parts(start, stop, like):
            here = slice(first, first + len(features))
            fill(features, strips[here])
            pairs = torch.stack([features.sum(1), directions.to(like)], dim=2)
            products = torch.bmm(features, pairs)  # X (X' 1), and X along the leading direction
            vectors[here] = products[:, :, 0]
            if self.bandwidths is not None:
                vectors[here] = torch.linalg.vector_norm(features, dim=2) ** 2
            columns.append(squares(features, self.scratch))
            along.append(products[:, :, 1])
        if self.bandwidths is None:
            sums = linear_sums(strips, vectors, len(self.y))
        else:
            sums = rbf_sums(strips, vectors, self.bandwidths, len(self.y))
        values = hsic.combine(pair_sums(n, *sums), hsic.unbiased(np.asarray(float(n))))
        return Batch(values, collect(columns, along, n - 1), redone=False)

    def _parts(
        self, start: int, stop: int, like: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(number of the first layer, centred features, leading directions) of a few layers.

        As many equally wide layers as `_PART_BYTES` holds; overwritten by the next.
        """
        before = 0
        for side in (self.y, self.x):
            for (first, last, width), directions in zip(side.runs(), side.directions, strict=True):
                step = max(1, _PART_BYTES // ((stop - start) * width * like.element_size()))
                for a in range(first, last, step):
                    b = min(a + step, last)
                    shape = (b - a, stop - start, width)
                    features = self.scratch.empty("features", shape, like)
                    for index in range(a, b):
                        centred_layer(side, index, start, stop, like, out=features[index - a])
                    yield before + a, features, directions[a - first : b - first]
            before += len(side)
