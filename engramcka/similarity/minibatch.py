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
from engramcka.similarity.diagnostics import Moments, collect, layer_moments
from engramcka.similarity.inputs import Layers
from engramcka.similarity.strips import fill, linear_sums, rbf_sums, strips_size
from engramcka.similarity.sums import pair_sums
from engramcka.similarity.workers import Scratch, ordered_map

MIN_BATCH = 4  # HSIC_1 divides by n (n - 3)
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
            part_bytes=numbers * self.like.element_size(),
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
        vectors, parts = like.new_empty((count, n)), []
        for number in range(count):
            features, direction = self._features(number, start, stop, like)
            fill(features, strips[number])
            if self.bandwidths is None:
                torch.mv(features, features.sum(0), out=vectors[number])
            else:
                vectors[number] = torch.linalg.vector_norm(features, dim=1) ** 2
            parts.append(layer_moments(features, direction, self.scratch))
        if self.bandwidths is None:
            sums = linear_sums(strips, vectors, len(self.y))
        else:
            sums = rbf_sums(strips, vectors, self.bandwidths, len(self.y))
        estimator = hsic.unbiased(np.asarray(float(n)))
        values = hsic.combine(pair_sums(n, *sums), estimator)
        return Batch(values, collect(parts, n - 1), redone=False)

    def _features(
        self, number: int, start: int, stop: int, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(samples, width) centred features and the (width,) leading direction of one layer."""
        side, index = self.y, number
        if number >= len(self.y):
            side, index = self.x, number - len(self.y)
        out = self.scratch.empty("layer", (stop - start, side.widths[index]), like)
        return centred_layer(side, index, start, stop, like, out=out), side.directions[index]
