"""The minibatch estimator: unbiased HSIC of every batch, to be summed over batches.

Nguyen et al. 2021 (equations 2 and 3): CKA is the ratio of sums of HSIC_1 over batches. Gives
HSIC values a batch, also without each group of samples.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from engramcka.errors import ComparisonError
from engramcka.pinned import sent
from engramcka.ram import GIB, free_bytes
from engramcka.similarity import hsic
from engramcka.similarity.batch_sums import BatchSums
from engramcka.similarity.constants import FAR
from engramcka.similarity.device_batches import DeviceWorkspace, device_bytes
from engramcka.similarity.documents import Ints
from engramcka.similarity.gram_strips import Workspace, strips_bytes
from engramcka.similarity.gram_tiles import Moments
from engramcka.similarity.massive import Outliers
from engramcka.similarity.parallel import Scratch, ordered_map
from engramcka.similarity.prepare import Prepared

CHECKED_BYTES = 256 * 2**20  # bytes from which a batch is compared with the memory that is free
_CREATING = threading.Lock()  # two threads that only create views would wait for each other
_FLOAT64_BELOW = 32  # samples: a small batch cancels more, and costs little in float64


def all_constant(y: Prepared, x: Prepared, samples: Ints, which: hsic.Bool) -> bool:
    """Whether each of these layers, of y and then of x, is the same for all of these samples."""
    layers = [(side, index) for side in (y, x) for index in range(len(side))]
    return all(
        side.constant(index, samples)
        for (side, index), asked in zip(layers, which, strict=True)
        if asked
    )


@dataclass(frozen=True)
class Batch:
    """What one batch gives, or several together."""

    values: hsic.Hsic  # of all samples (entry 0), and without each group of samples (the others)
    moments: Moments
    outliers: Outliers
    redone: bool  # in float64, because float32 would not do

    def __add__(self, other: Batch) -> Batch:
        return Batch(
            self.values + other.values,
            self.moments + other.moments,
            self.outliers + other.outliers,
            self.redone or other.redone,
        )


@dataclass(frozen=True)
class Minibatch:
    """Two models and how to compare them batch by batch."""

    y: Prepared
    x: Prepared
    batches: Sequence[Ints]  # the samples of each, those of a group together
    groups: Ints | None  # (samples,) which are left out together; None for none left out
    bandwidths: torch.Tensor | None  # (layers,) of the RBF kernel; None for the linear one
    like: torch.Tensor  # of the dtype and on the device to compute with
    split: bool = False  # float32 products are made in three bfloat16 parts
    scratch: Scratch = field(default_factory=Scratch)

    def run(self, numbers: Sequence[int], ranks: int = 1) -> Iterator[Batch]:
        """HSIC_1 of every pair of layers and the layers' moments, for these batches, in order.

        Args:
            numbers: of the batches.
            ranks: processes that share the memory.
        """
        size = max(map(len, self.batches))
        for window in held_windows(self.y, self.x, self.batches, numbers, ranks):
            batches = [self.batches[number] for number in window]
            if self.like.is_cuda:
                yield from self._ahead(batches)
            else:
                yield from ordered_map(
                    self.batch,
                    batches,
                    count=len(self.batches),
                    part_bytes=self._bytes((0, size), self.like),
                    device=self.like.device,
                )

    def _ahead(self, batches: Sequence[Ints]) -> Iterator[Batch]:
        """`batch` of each: a GPU begins one before the host looks at what the one before gave."""
        begun = self._begin(batches[0], self._first(batches[0]))
        for number, samples in enumerate(batches):
            finish = begun
            for after in batches[number + 1 : number + 2]:
                begun = self._begin(after, self._first(after))
            yield self._checked(samples, finish())

    def batch(self, samples: Ints) -> Batch:
        """HSIC_1 over some samples, in float64 where float32 would not do."""
        return self._checked(samples, self._begin(samples, self._first(samples))())

    def _first(self, samples: Ints) -> torch.Tensor:
        """Of the dtype that is tried first."""
        return self.like.double() if len(samples) < _FLOAT64_BELOW else self.like

    def _checked(self, samples: Ints, result: Batch) -> Batch:
        imprecise = np.asarray(hsic.imprecise(result.values).any(axis=0))
        if not imprecise.any():
            return result
        for side in (self.y, self.x):
            side.raise_if_nonfinite(samples)
        wide = self.like.double()
        if self._first(samples).dtype == wide.dtype:
            return result
        if all_constant(self.y, self.x, samples, imprecise):
            return replace(result, values=hsic.zeroed(result.values, imprecise))
        return replace(self._begin(samples, wide)(), redone=True)

    def _begin(self, samples: Ints, like: torch.Tensor) -> Callable[[], Batch]:
        """Begin a batch; what is given waits for its results."""
        edges, place = self._edges(samples)
        space = self.scratch.kept((edges, like.dtype), lambda: self._workspace(edges, like))
        sums = space.start(torch.from_numpy(samples))
        return lambda: self._result(samples, edges, place, sums())

    def _result(self, samples: Ints, edges: tuple[int, ...], place: Ints, sums: BatchSums) -> Batch:
        n = len(samples)
        counts = np.array([float(n), *(float(n - c) for c in np.diff(edges))])
        with np.errstate(invalid="ignore", divide="ignore"):
            values = hsic.combine(sums.pairs, hsic.unbiased(counts[: len(sums.pairs.own)]))
        own = sums.pairs.own[0]
        outliers = Outliers(
            sums.distances,
            sums.added,
            own.copy() if self.bandwidths is None else np.full(len(own), np.nan),
            sums.massive.sum(1).astype(np.float64),
            np.sort(samples[sums.massive.any(0)]),
            n,
        )
        moments = Moments(n - 1, sums.columns, sums.along)
        return Batch(values[place], moments, outliers, redone=False)

    @cached_property
    def _limits(self) -> torch.Tensor:
        """(layers,) squared distance from the centre from which a sample is massive."""
        distances = torch.tensor([*self.y.distances, *self.x.distances], dtype=torch.float64)
        return sent((FAR * distances).square(), self.like.device)

    def _edges(self, samples: Ints) -> tuple[tuple[int, ...], Ints]:
        """First sample of each group that a batch has, and which set of samples each group leaves.

        A group that the batch has no sample of leaves all of them: set 0.
        """
        n = len(samples)
        if self.groups is None:
            return (0, n), np.zeros(1, dtype=np.int64)
        there, first = np.unique(self.groups[samples], return_index=True)
        place = np.zeros(2 + int(self.groups.max()), dtype=np.int64)
        if len(there) == 1:
            return (0, n), place
        place[1 + there] = 1 + np.arange(len(there))
        return (*first.tolist(), n), place

    @property
    def _widths(self) -> tuple[int, ...]:
        return self.y.widths + self.x.widths

    def _workspace(self, edges: tuple[int, ...], like: torch.Tensor) -> Workspace | DeviceWorkspace:
        needed = self._bytes(edges, like)
        free = free_bytes(like.device) if needed > CHECKED_BYTES else math.inf
        if needed > free:
            raise ComparisonError(
                f"a batch of {edges[-1]} samples of {len(self.y)} + {len(self.x)} layers needs "
                f"{needed / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are "
                "free; a smaller batch_size needs less"
            )
        options: Any = {"bandwidths": self.bandwidths, "split": self._splits(like)}
        if like.is_cuda:
            return DeviceWorkspace(self.y, self.x, edges, self._limits, like, **options)
        with _CREATING:
            return Workspace(self.y, self.x, edges, self._limits, self.scratch, like, **options)

    def _bytes(self, edges: tuple[int, ...], like: torch.Tensor) -> int:
        rbf, split = self.bandwidths is not None, self._splits(like)
        return workspace_bytes(self._widths, edges, like, split=split, rbf=rbf)

    def _splits(self, like: torch.Tensor) -> bool:
        return self.split and like.dtype == torch.float32


def workspace_bytes(
    widths: Sequence[int],
    edges: Sequence[int],
    like: torch.Tensor,
    *,
    split: bool = False,
    rbf: bool = False,
) -> int:
    """Memory that a batch takes beside its samples.

    Args:
        widths: of the layers, y's and x's.
        edges: first sample of each group, and how many samples there are: (0, n) for one group.
        like: a tensor of the dtype and on the device to compute with.
        split: whether products are made in three bfloat16 parts.
        rbf: whether the kernel is RBF.
    """
    if like.is_cuda:
        return device_bytes(widths, edges, like, split=split, rbf=rbf)
    return strips_bytes(widths, edges, like, split=split)


def held_windows(
    y: Prepared, x: Prepared, batches: Sequence[Ints], numbers: Sequence[int], ranks: int
) -> Iterator[list[int]]:
    """Runs of the batches with these numbers, whose samples are held while a run is at hand.

    As many batches at a time as half of the free memory holds are read from arrays that are not in
    memory, at one reading of each array, in order.

    Args:
        y: one model.
        x: the other.
        batches: the samples of each.
        numbers: of the batches wanted.
        ranks: processes that share the memory.
    """
    needed = y.held_bytes() + x.held_bytes()
    most = math.inf if not needed else free_bytes() / (2 * ranks * needed)
    windows: list[list[int]] = []
    samples = math.inf
    for number in numbers:
        samples += len(batches[number])
        if samples > most or not windows:
            windows.append([])
            samples = len(batches[number])
        windows[-1].append(number)
    for window in windows:
        held = np.sort(np.concatenate([batches[number] for number in window]))
        for side in (y, x):
            side.hold(held)
        yield window


def batch_portions(batches: int, most: int) -> list[range]:
    """At most so many runs of neighbouring batches, of nearly one size."""
    portions = min(batches, most)
    edges = [-(-portion * batches // portions) for portion in range(portions + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def smallest_left(batches: Sequence[Ints], groups: Ints) -> int:
    """Fewest samples that a batch has without some group."""
    return min(len(samples) - int(np.bincount(groups[samples]).max()) for samples in batches)
