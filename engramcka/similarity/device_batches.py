"""All sums that HSIC_1 needs of one batch, on a GPU, by some fifty kernels for all layers together.

What `gram_strips` does layer by layer, while features are in a CPU's cache, is done here for all
equally wide layers at once, since a kernel costs the same for one. All numbers of the result go to
the host in one copy, for which it need not wait before the next batch is begun.

Of the linear kernel and one group of samples the lower half of the Gram matrices is made, in strips
of 256 columns, else the whole of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import device_layers
from engramcka.similarity.batch_sums import BatchSums
from engramcka.similarity.gram_tiles import CHUNK, all_products, centre_all, rbf_
from engramcka.similarity.hsic import PairSums
from engramcka.similarity.massive import added_by, candidates
from engramcka.similarity.prepare import Prepared
from engramcka.similarity.split_products import PARTS, split, split_product

STRIP = 256  # columns: narrower ones would save little, and each is a product of its own
MOST_BYTES = 2**30  # of features that are worked on at once, unless one layer has more


@dataclass(frozen=True)
class _Part:
    """Equally wide neighbours among the layers of y and then of x."""

    sources: list[tuple[Prepared, range, slice]]  # layers of a model, and which of the part's
    where: slice  # the part's among all layers
    width: int
    centres: torch.Tensor  # (layers, width)
    directions: torch.Tensor  # (layers, width)
    columns: torch.Tensor  # (layers, width), to be written


class DeviceWorkspace:
    """Memory for batches whose samples are in groups with these edges.

    Args:
        y: one model.
        x: the other.
        edges: first sample of each group, and how many samples there are: (0, n) for one group.
        limits: (layers,) squared distance from the centre from which a sample is massive.
        like: a tensor of the dtype and on the device to compute with.
        bandwidths: (layers,) float64 of the RBF kernel; None for the linear one.
        split: whether products are made in three bfloat16 parts.
    """

    def __init__(
        self,
        y: Prepared,
        x: Prepared,
        edges: Sequence[int],
        limits: torch.Tensor,
        like: torch.Tensor,
        *,
        bandwidths: torch.Tensor | None = None,
        split: bool = False,
    ) -> None:
        self._y_layers, self._edges = len(y), tuple(edges)
        self._limits, self._bandwidths = limits.to(like), bandwidths
        n, layers = edges[-1], len(y) + len(x)
        self._n, self._layers = n, layers
        self._columns = _columns(edges, whole=bandwidths is not None)
        sizes = [(n - start) * width for start, width in self._columns]
        # What pads them to whole chunks stays 0.
        self._gram = like.new_zeros((layers, _strips_size(edges, whole=bandwidths is not None)))
        self._strips = [
            strip.view(layers, n - start, width)
            for strip, (start, width) in zip(
                self._gram[:, : sum(sizes)].split_with_sizes(sizes, dim=1),
                self._columns,
                strict=True,
            )
        ]
        extra = self._groups + 2
        self._extra = like.new_empty((layers, extra, n))
        self._lengths = like.new_empty((layers, n))
        self._shifts = like.new_empty((layers,))
        count = candidates(n)
        self._longest = like.new_empty((layers, count))
        self._which = torch.empty((layers, count), dtype=torch.int64, device=like.device)
        self._among = like.new_empty((layers, count, n))  # products of the farthest with all
        self._sums = like.new_empty(sum(y.widths) + sum(x.widths))
        self._parts = self._cut(y, x, (n + extra) * like.element_size())
        size = max(len(part.centres) * (n + extra) * part.width for part in self._parts)
        self._features = like.new_empty(size)
        self._split = None
        if split:
            self._split = like.new_empty(PARTS * size, dtype=torch.bfloat16)
        self._outside: torch.Tensor | None = None  # (groups, 1, samples) 0 for those of the group
        if self._groups > 1:
            outside = torch.ones((self._groups, 1, n), dtype=torch.float64)
            for group, (start, stop) in enumerate(pairwise(self._edges)):
                outside[group, :, start:stop] = 0
            self._outside = outside.to(like.device)

    @property
    def _groups(self) -> int:
        return len(self._edges) - 1

    @property
    def _is_half(self) -> bool:
        """Whether the strips hold each pair of samples once."""
        return self._bandwidths is None and self._groups == 1

    def _cut(self, y: Prepared, x: Prepared, dimension_bytes: int) -> list[_Part]:
        layers = [(side, index) for side in (y, x) for index in range(len(side))]
        widths, parts, start = y.widths + x.widths, [], 0
        columns = self._sums.split_with_sizes(widths)
        while start < len(layers):
            stop, width = start, widths[start]
            most = start + max(1, MOST_BYTES // (dimension_bytes * width))
            while stop < min(len(layers), most) and widths[stop] == width:
                stop += 1
            sources = []
            for side, before in ((y, 0), (x, len(y))):
                low, high = max(start, before), min(stop, before + len(side))
                if low < high:
                    own = range(low - before, high - before)
                    sources.append((side, own, slice(low - start, high - start)))
            first = sum(widths[:start])
            parts.append(
                _Part(
                    sources,
                    slice(start, stop),
                    width,
                    torch.stack([s.centres[i] for s, i in layers[start:stop]]).to(columns[0]),
                    torch.stack([s.directions[i] for s, i in layers[start:stop]]).to(columns[0]),
                    self._sums[first : first + (stop - start) * width].view(-1, width),
                )
            )
            start = stop
        return parts

    def start(self, samples: torch.Tensor) -> Callable[[], BatchSums]:
        """Begin a batch; what is given waits for its sums.

        Args:
            samples: (n,) which ones, those of a group together; on the host.
        """
        for part in self._parts:
            self._fill(part, samples)
        return self._to_host(*self._all_sums())

    def _fill(self, part: _Part, samples: torch.Tensor) -> None:
        """The Gram matrices of some layers, and what else needs their features."""
        n, where, count = self._n, part.where, len(part.centres)
        shape = (count, n + self._extra.shape[1], part.width)
        rows = self._features[: math.prod(shape)].view(shape)
        features = rows[:, :n]
        for side, layers, place in part.sources:
            device_layers.gather(side, layers, samples, features[place])
        means = centre_all(features)
        for group, (start, stop) in enumerate(pairwise(self._edges)):
            torch.sum(features[:, start:stop], 1, out=rows[:, n + group])
        shifts = torch.sub(means, part.centres, out=rows[:, -2])
        torch.linalg.vecdot(shifts, shifts, out=self._shifts[where])
        rows[:, -1] = part.directions
        torch.linalg.vector_norm(features, dim=1, out=part.columns)
        factors, product = rows, _product
        if self._split is not None:
            shape = (*shape[:2], PARTS * part.width)
            factors, product = (
                split(rows, self._split[: math.prod(shape)].view(shape)),
                split_product,
            )
        for strip, (start, width) in zip(self._strips, self._columns, strict=True):
            product(factors[:, start:n], factors[:, start : start + width], strip[where])
        product(factors[:, n:], factors[:, :n], self._extra[where])
        diagonals = [strip[where].diagonal(dim1=1, dim2=2) for strip in self._strips]
        lengths = torch.cat(diagonals, dim=1, out=self._lengths[where])
        which = self._which[where]
        torch.topk(lengths, which.shape[1], dim=1, out=(self._longest[where], which))
        farthest = features.gather(1, which[:, :, None].expand(-1, -1, part.width))
        torch.bmm(farthest, features.mT, out=self._among[where])

    def _all_sums(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Everything that goes to the host: numbers, and (layers, samples) which are massive."""
        far = torch.add(self._lengths, self._extra[:, -2], alpha=2).add_(self._shifts[:, None])
        inner, rows = self._pair_sums()
        along = self._extra[:, -1]
        numbers = [
            inner,
            torch.bmm(rows, rows.mT),
            rows.sum(2),
            self._sums.double(),
            torch.linalg.vecdot(along, along),
            self._longest,
            added_by(self._among, self._which),
        ]
        return numbers, far > self._limits[:, None]

    def _pair_sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(sets, layers, layers) inner products, and (sets, layers, samples) row sums, of K~.

        A set is all samples (entry 0) and, where there are several groups, those without each.
        """
        if self._bandwidths is not None:
            parts = self._rbf_rows()
        else:
            parts = self._extra[:, : self._groups].double()
            for group, (start, stop) in enumerate(pairwise(self._edges)):
                parts[:, group, start:stop] -= self._lengths[:, start:stop]
        if self._is_half:
            for strip in self._strips:
                strip[:, : strip.shape[2]].tril_(-1)
            return _products(self._gram)[None], parts.transpose(0, 1)
        (gram,) = self._strips
        gram.diagonal(dim1=1, dim2=2).zero_()
        if self._outside is None:
            return all_products(gram)[None], parts.transpose(0, 1)
        groups = list(pairwise(self._edges))
        against = torch.stack([all_products(gram[:, a:b]) for a, b in groups])
        within = torch.stack([all_products(gram[:, a:b, a:b]) for a, b in groups])
        total = against.sum(0)[None]
        whole = parts.sum(1)[None]
        rows = (whole - parts.transpose(0, 1)) * self._outside
        return torch.cat([total, total - 2 * against + within]), torch.cat([whole, rows])

    def _rbf_rows(self) -> torch.Tensor:
        """(layers, groups, samples) row sums over each group, once the kernel is made."""
        assert self._bandwidths is not None
        (gram,) = self._strips
        rbf_(gram, self._lengths, self._lengths, self._bandwidths)
        gram.diagonal(dim1=1, dim2=2).zero_()
        groups = pairwise(self._edges)
        return torch.stack([gram[:, :, a:b].sum(2, dtype=torch.float64) for a, b in groups], 1)

    def _to_host(
        self, numbers: list[torch.Tensor], massive: torch.Tensor
    ) -> Callable[[], BatchSums]:
        shapes = [tuple(part.shape) for part in numbers]
        together = torch.cat([part.double().flatten() for part in numbers])
        copies = []
        for values in (together, massive):
            copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            copies.append(copy.copy_(values, non_blocking=True))
        arrived = torch.cuda.current_stream(massive.device).record_event()

        def sums() -> BatchSums:
            arrived.synchronize()
            edges = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
            parts = np.split(copies[0].numpy(), edges)
            values = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
            inner, products, totals, columns, along, longest, added = values
            inner = inner * (2 if self._is_half else 1)
            pairs = PairSums(
                self._cross(inner), _own(inner), self._cross(products), _own(products), totals
            )
            return BatchSums(pairs, columns**2, along, longest, added, copies[1].numpy())

        return sums

    def _cross(self, values: Float) -> Float:
        return values[:, : self._y_layers, self._y_layers :]


def _own(values: Float) -> Float:
    return np.diagonal(values, axis1=1, axis2=2)


def _product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    torch.bmm(left, right.mT, out=out)


def _products(gram: torch.Tensor) -> torch.Tensor:
    """(layers, layers) float64 inner products of (layers, whole chunks of numbers)."""
    chunks = gram.view(len(gram), -1, CHUNK).transpose(0, 1)
    return torch.bmm(chunks, chunks.mT).sum(0, dtype=torch.float64)


def _columns(edges: Sequence[int], *, whole: bool) -> list[tuple[int, int]]:
    """(first sample, columns) of each strip."""
    n = edges[-1]
    if whole or len(edges) > 2:
        return [(0, n)]
    return [(start, min(STRIP, n - start)) for start in range(0, n, STRIP)]


def _strips_size(edges: Sequence[int], *, whole: bool) -> int:
    """Numbers that one layer's strips take, in whole chunks."""
    size = sum((edges[-1] - start) * width for start, width in _columns(edges, whole=whole))
    return -(-size // CHUNK) * CHUNK


def device_bytes(
    widths: Sequence[int], edges: Sequence[int], like: torch.Tensor, *, split: bool, rbf: bool
) -> int:
    """Memory that a `DeviceWorkspace` takes while a batch is in it."""
    n, rows = edges[-1], edges[-1] + len(edges) + 1
    numbers = _strips_size(edges, whole=rbf) + (len(edges) + 3 + 2 * candidates(n)) * n
    largest = max(rows * max(widths) * like.element_size(), MOST_BYTES)
    features = min(rows * sum(widths) * like.element_size(), largest)
    # The features themselves, and as they are stored, at most as wide.
    held = 2.0 + split * (PARTS * torch.bfloat16.itemsize / like.element_size() + 1)
    return len(widths) * numbers * like.element_size() + int(held * features)
