"""The minibatch estimator: unbiased HSIC of every batch, to be summed over batches.

Nguyen et al. 2021 (equations 2 and 3): CKA is the ratio of sums of HSIC_1 over batches. Gives
HSIC values a batch; knows nothing of intervals.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch

from engramcka.errors import ComparisonError
from engramcka.memory import GIB, free_bytes
from engramcka.similarity import hsic
from engramcka.similarity.diagnostics import Moments, collect
from engramcka.similarity.inputs import Layers
from engramcka.similarity.sums import pair_sums
from engramcka.similarity.workers import Scratch, ordered_map
from engramcka.similarity.workspace import Workspace, workspace_bytes

MIN_BATCH = 4  # HSIC_1 divides by n (n - 3)
_CHECKED = 256 * 2**20  # bytes from which a batch is held against the memory that is free
_MAKING = threading.Lock()  # two threads that only make views would wait for each other at each
_FLOAT64_BELOW = 32  # samples: a small batch cancels more, and costs little in float64


def all_constant(y: Layers, x: Layers, start: int, stop: int, which: hsic.Bool) -> bool:
    """Whether each of these layers, of y and then of x, is the same for all of these samples."""
    layers = [(side, index) for side in (y, x) for index in range(len(side))]
    return all(
        side.constant(index, start, stop)
        for (side, index), asked in zip(layers, which, strict=True)
        if asked
    )


def batch_groups(batches: int, most: int) -> list[range]:
    """At most so many groups of neighbouring batches, of nearly one size."""
    groups = min(batches, most)
    edges = [-(-group * batches // groups) for group in range(groups + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def batch_ranges(n: int, batch_size: int) -> list[tuple[int, int]]:
    """(start, stop) of each batch; a last one of fewer than 4 samples joins the one before."""
    edges = [*range(0, n, batch_size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < MIN_BATCH:
        del edges[-2]
    return list(pairwise(edges))


@dataclass(frozen=True)
class Batch:
    """What one batch gives, or several together."""

    values: hsic.Hsic
    moments: Moments
    redone: bool  # in float64, because float32 would not do

    def __add__(self, other: Batch) -> Batch:
        return Batch(
            self.values + other.values,
            self.moments + other.moments,
            self.redone or other.redone,
        )


@dataclass(frozen=True)
class Minibatch:
    """Two models and how to compare them batch by batch."""

    y: Layers
    x: Layers
    ranges: list[tuple[int, int]]  # of the batches
    bandwidths: torch.Tensor | None  # (layers,) of the RBF kernel; None for the linear one
    like: torch.Tensor  # of the dtype and on the device to compute with
    scratch: Scratch = field(default_factory=Scratch)

    def run(self, batches: Iterable[int]) -> Iterator[Batch]:
        """HSIC_1 of every pair of layers and the layers' moments, for these batches, in order."""
        size = max(stop - start for start, stop in self.ranges)
        yield from ordered_map(
            self.batch,
            (self.ranges[batch] for batch in batches),
            count=len(self.ranges),
            part_bytes=workspace_bytes(self._widths, size, self.like),
            device=self.like.device,
        )

    def batch(self, edges: tuple[int, int]) -> Batch:
        """HSIC_1 over samples start to stop, in float64 where float32 would not do."""
        start, stop = edges
        wide = self.like.double()
        first = wide if stop - start < _FLOAT64_BELOW else self.like
        result = self._estimate(start, stop, first)
        doubtful = hsic.doubtful(result.values)
        if not doubtful.any():
            return result
        for side in (self.y, self.x):
            side.raise_if_nonfinite(start, stop)
        if first.dtype == wide.dtype:
            return result
        if all_constant(self.y, self.x, start, stop, doubtful):
            return replace(result, values=hsic.zeroed(result.values, doubtful))
        return replace(self._estimate(start, stop, wide), redone=True)

    def _estimate(self, start: int, stop: int, like: torch.Tensor) -> Batch:
        n = stop - start
        space = self.scratch.kept((n, like.dtype), lambda: self._workspace(n, like))
        columns = space.fill(start, stop)
        if self.bandwidths is None:
            sums = space.strips.linear_sums()
        else:
            sums = space.strips.rbf_sums(self.bandwidths)
        moments = collect(columns, sums.along, n - 1)
        pairs = pair_sums(sums.cross, sums.own, sums.rows)
        values = hsic.combine(pairs, hsic.unbiased(float(n)))
        return Batch(values, moments, redone=False)

    @property
    def _widths(self) -> list[int]:
        return self.y.widths + self.x.widths

    def _workspace(self, n: int, like: torch.Tensor) -> Workspace:
        needed = workspace_bytes(self._widths, n, like)
        free = free_bytes(like.device) if needed > _CHECKED else math.inf
        if needed > free:
            raise ComparisonError(
                f"a batch of {n} samples of {len(self.y)} + {len(self.x)} layers needs "
                f"{needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are "
                "free; a smaller batch_size needs less"
            )
        with _MAKING:
            return Workspace(self.y, self.x, n, self.scratch, like)
