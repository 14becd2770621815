"""The lower half of one batch's Gram matrices, the sums that HSIC_1 needs of it, and its memory.

A strip holds a few columns and the rows from the first of them on: a square on the diagonal and
all that is below it. Narrow strips make little more than half of a matrix. A few more rows go
through the same product: X (X_g' 1), the sums over each group of samples, and X along a direction.
Strips are filled for a few layers at a time, while their features are in the cache, and added up
for all at once. Where samples are in several groups, a strip is the columns of one, and its rows
are added up a group at a time: sums without any group follow at no further product.
K~ is a Gram matrix with its diagonal set to zero. Memory is cut up once: a thread uses its own
again for every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch

from engramcka.similarity.batch_sums import BatchSums
from engramcka.similarity.gram_tiles import (
    centre,
    collect,
    moment_sums,
    pair_products,
    pair_sums,
    rbf_,
    row_blocks,
    sides,
    squares,
)
from engramcka.similarity.massive import candidates, farthest_samples
from engramcka.similarity.parallel import Scratch
from engramcka.similarity.prepare import Prepared
from engramcka.similarity.split_products import PARTS, split, split_product

STRIP = 32  # columns

Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_MOST_BYTES = 2**22  # of features worked on at once, unless one layer has more


@dataclass(frozen=True)
class GramSums:
    """Sums over K~ of all samples (entry 0) and, where there are several groups of samples, of
    those without each (the others); float64. And what else the products gave."""

    cross: torch.Tensor  # (sets, y layers, x layers): sum_ij K~_ij L~_ij
    own: torch.Tensor  # (sets, layers): sum_ij K~_ij^2
    rows: torch.Tensor  # (sets, layers, samples): K~ 1 over the set; 0 for samples not in it
    lengths: torch.Tensor  # (layers, samples): squared lengths of the features
    shifted: torch.Tensor  # (layers, samples): the features along each layer's shift
    along: torch.Tensor  # (layers, samples): the features along each layer's direction


def extra_rows(edges: Sequence[int]) -> int:
    """Rows below the samples' own: X_g' 1 of each group, the shift, and a direction."""
    return len(edges) + 1


def gram_strips_size(edges: Sequence[int]) -> int:
    """Numbers that the strips of one layer hold, whose samples are in groups with these edges."""
    extra = extra_rows(edges)
    return sum((edges[-1] - start + extra) * width for start, width in _columns(edges))


class GramStrips:
    """The strips of every layer of one batch.

    Args:
        edges: first sample of each group, and how many samples there are: (0, n) for one group.
        y_layers: how many.
        x_layers: how many.
        scratch: memory to keep them in.
        like: a tensor of the dtype and on the device to compute with.
    """

    def __init__(
        self,
        edges: Sequence[int],
        y_layers: int,
        x_layers: int,
        scratch: Scratch,
        like: torch.Tensor,
    ) -> None:
        layers = y_layers + x_layers  # y's first
        n, extra = edges[-1], extra_rows(edges)
        memory = scratch.empty("strips", (layers * gram_strips_size(edges),), like)
        self._edges, self._y_layers = tuple(edges), y_layers
        self._columns = _columns(edges)
        self._strips: list[torch.Tensor] = []  # each (layers, rows, columns) and contiguous
        first = 0
        for start, width in self._columns:
            last = first + layers * (n - start + extra) * width
            self._strips.append(memory[first:last].view(layers, n - start + extra, width))
            first = last
        # Every view of them is made once, not once a batch.
        self._below = [strip[:, :-extra] for strip in self._strips]
        self._squares = [strip[:, : strip.shape[2]] for strip in self._strips]
        self._diagonals = [square.diagonal(dim1=1, dim2=2) for square in self._squares]
        self._extra = [strip[:, -extra:] for strip in self._strips]
        if self._groups == 1:
            self._sides = [part for below in self._below for part in sides(below, y_layers)]

    @property
    def _groups(self) -> int:
        return len(self._edges) - 1

    def products(self, features: torch.Tensor, layers: slice) -> list[Product]:
        """The products that write the strips of X X' of some layers: left, right and result.

        Args:
            features: (layers, samples + extra rows, width): X, below it X_g' 1 of each group, how
                far the mean is from the layer's centre, and a direction; or its parts.
            layers: which these are.
        """
        return [
            (features[:, start:], features[:, start : start + width], strip[layers])
            for (start, width), strip in zip(self._columns, self._strips, strict=True)
        ]

    def linear_sums(self) -> GramSums:
        """Sums over K~ of the linear kernel; the strips are changed."""
        extra = torch.cat(self._extra, dim=2)
        parts = extra[:, :-2].double()
        lengths = self._lengths()
        for group, (start, stop) in enumerate(pairwise(self._edges)):
            parts[:, group, start:stop] -= lengths[:, start:stop]
        for square in self._squares:
            square.tril_(-1)
        return self._sums(parts, lengths, extra)

    def rbf_sums(self, bandwidths: torch.Tensor) -> GramSums:
        """Sums over K~ of the RBF kernel; the strips are changed.

        Args:
            bandwidths: (layers,) float64.
        """
        norms = self._lengths()
        layers, n = norms.shape
        parts = norms.new_zeros((layers, self._groups, n), dtype=torch.float64)
        for strip, square, (start, width) in zip(
            self._below, self._squares, self._columns, strict=True
        ):
            below, columns = slice(start, None), slice(start, start + width)
            rbf_(strip, norms[:, below], norms[:, columns], bandwidths)
            square.tril_(-1)
            own = self._group(start)
            parts[:, own, below] += strip.sum(2, dtype=torch.float64)
            for group, (low, high) in enumerate(pairwise(self._edges)):
                rows = strip[:, max(low - start, 0) : max(high - start, 0)]
                parts[:, group, columns] += rows.sum(1, dtype=torch.float64)
        return self._sums(parts, norms, torch.cat(self._extra, dim=2))

    def _group(self, sample: int) -> int:
        """Of the samples that start at this one."""
        return next(g for g, stop in enumerate(self._edges[1:]) if sample < stop)

    def lengths(self, layers: slice) -> torch.Tensor:
        """(layers, samples) squared lengths of the features of some layers, once they are there."""
        return torch.cat([diagonal[layers] for diagonal in self._diagonals], dim=1)

    def _lengths(self) -> torch.Tensor:
        return torch.cat(self._diagonals, dim=1)

    def _sums(self, parts: torch.Tensor, lengths: torch.Tensor, extra: torch.Tensor) -> GramSums:
        """All sums, from (layers, groups, samples) sums of each row over each group."""
        others = lengths, extra[:, -2], extra[:, -1]
        rows = parts.sum(1)[None]
        if self._groups == 1:
            cross, own = pair_products(self._sides)
            # The strips hold each pair of samples once.
            return GramSums(cross.mul_(2)[None], own.mul_(2)[None], rows, *others)
        rows = torch.cat([rows, rows - parts.transpose(0, 1)])
        for group, (start, stop) in enumerate(pairwise(self._edges), start=1):
            rows[group, :, start:stop] = 0
        return GramSums(*self._group_sums(), rows, *others)

    def _group_sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inner products of all samples and without each group; a strip is a group's columns."""
        crosses, owns = [], []
        for group, below in enumerate(self._below):
            first = self._edges[group]
            for other in range(group, self._groups):
                tile = below[:, self._edges[other] - first : self._edges[other + 1] - first]
                cross, own = pair_products(sides(tile, self._y_layers))
                crosses.append(cross)
                owns.append(own)
        counts = _counts(self._groups).to(crosses[0].device)
        cross = torch.tensordot(counts, torch.stack(crosses), dims=1)
        return cross, counts @ torch.stack(owns)


@cache
def _counts(groups: int) -> torch.Tensor:
    """(1 + groups, tiles) how often each tile counts in the sum over all and without each group.

    The tiles are those of `GramStrips._group_sums`, in its order. A pair of samples is in one of
    them, and counts twice, or not at all where one of the two is left out.
    """
    tiles = [(group, other) for group in range(groups) for other in range(group, groups)]
    counts = torch.full((1 + groups, len(tiles)), 2.0, dtype=torch.float64)
    for number, touched in enumerate(tiles):
        for group in touched:
            counts[1 + group, number] = 0
    return counts


def _columns(edges: Sequence[int]) -> list[tuple[int, int]]:
    """(first sample, columns) of each strip: a group's where there are several."""
    if len(edges) > 2:
        return [(start, stop - start) for start, stop in pairwise(edges)]
    return [(start, min(STRIP, edges[-1] - start)) for start in range(0, edges[-1], STRIP)]


@dataclass(frozen=True)
class _Part:
    """A few equally wide layers of one side, and where their features go."""

    side: Prepared
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
    rows: torch.Tensor  # (layers, samples + extra rows, width), all of the above
    split: torch.Tensor | None  # their parts, which are then multiplied
    products: list[Product]


@dataclass(frozen=True)
class Filled:
    """What is known of a batch's features once they are centred."""

    columns: torch.Tensor  # (sum of widths,) sums of squares; overwritten by the next batch
    farthest: torch.Tensor  # (2, layers, candidates), see `massive.farthest_samples`
    shifts: torch.Tensor  # (layers,) squared distance of the mean from the layer's centre


class Workspace:
    """Memory for batches whose samples are in groups with these edges.

    Args:
        y: one model.
        x: the other.
        edges: first sample of each group, and how many samples there are: (0, n) for one group.
        limits: (layers,) squared distance from the centre from which a sample is massive.
        scratch: memory to take.
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
        scratch: Scratch,
        like: torch.Tensor,
        *,
        bandwidths: torch.Tensor | None = None,
        split: bool = False,
    ) -> None:
        self.gram = GramStrips(edges, len(y), len(x), scratch, like)
        self._limits, self._bandwidths = limits, bandwidths
        self._edges, self._like, self._scratch = tuple(edges), like, scratch
        self._splits = split
        self._n, self._rows = edges[-1], edges[-1] + extra_rows(edges)
        dimension = self._rows * like.element_size()
        parts = [(side, layers) for side in (y, x) for layers in side.parts(dimension, _MOST_BYTES)]
        sizes = [len(layers) * side.widths[layers[0]] for side, layers in parts]
        self._columns = like.new_empty(sum(sizes))
        places = zip(parts, self._columns.split_with_sizes(sizes), strict=True)
        self._parts = [
            self._part(side, layers, 0 if side is y else len(y), columns)
            for (side, layers), columns in places
        ]

    def _part(self, side: Prepared, layers: range, before: int, columns: torch.Tensor) -> _Part:
        width = side.widths[layers[0]]
        rows = self._scratch.empty("features", (len(layers), self._rows, width), self._like)
        features = rows[:, : self._n]
        where = slice(before + layers.start, before + layers.stop)
        groups = [features[:, start:stop] for start, stop in pairwise(self._edges)]
        split = None
        if self._splits:
            shape = (len(layers), self._rows, PARTS * width)
            split = self._scratch.empty("split", shape, self._like.to(torch.bfloat16))
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
            rows=rows,
            split=split,
            products=self.gram.products(rows if split is None else split, where),
        )

    def start(self, samples: torch.Tensor) -> Callable[[], BatchSums]:
        """What a batch of these samples gives, computed here and now.

        Args:
            samples: (n,) which ones, those of a group together.
        """
        filled = self._fill(samples)
        if self._bandwidths is None:
            sums = self.gram.linear_sums()
        else:
            sums = self.gram.rbf_sums(self._bandwidths)
        moments = collect(moment_sums(filled.columns, sums.along), len(sums.along), 0)
        far = sums.lengths + 2 * sums.shifted + filled.shifts[:, None]
        massive = (far > self._limits.to(far)[:, None]).numpy()
        distances, added = filled.farthest.numpy()
        pairs = pair_sums(sums.cross, sums.own, sums.rows)
        found = BatchSums(pairs, moments.columns, moments.along, distances, added, massive)
        return lambda: found

    def _fill(self, samples: torch.Tensor) -> Filled:
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
            if part.split is not None:
                split(part.rows, out=part.split)
            for left, right, out in part.products:
                if part.split is None:
                    torch.bmm(left, right.mT, out=out)
                else:
                    split_product(left, right, out)
            lengths = self.gram.lengths(part.where)
            farthest.append(farthest_samples(part.features, lengths, candidates(self._n)))
        return Filled(self._columns, torch.cat(farthest, dim=1), torch.stack(shifts))


def strips_bytes(
    widths: Sequence[int], edges: Sequence[int], like: torch.Tensor, *, split: bool = False
) -> int:
    """Memory that a `Workspace` takes, for layers of these widths, y's and x's."""
    strips = len(widths) * gram_strips_size(edges)
    widest = (edges[-1] + extra_rows(edges)) * max(widths) * like.element_size()
    held = 2.0 + split * PARTS * torch.bfloat16.itemsize / like.element_size()
    return strips * like.element_size() + int(held * max(widest, _MOST_BYTES))
