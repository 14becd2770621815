"""Estimators over all samples at once, exact, in memory independent of their number squared.

`debiased` is HSIC_1 over all samples, `biased` HSIC_0 (Kornblith et al. 2019). The inner products
of Gram matrices come from `routes`, by the way that costs fewer operations; all
else comes from sums over rows, K 1 = X (X' 1), in two passes over the samples and without a Gram
matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import hsic
from engramcka.similarity.documents import Ints
from engramcka.similarity.gram_tiles import (
    Moments,
    centred,
    collect,
    moment_sums,
    overall_means,
    row_blocks,
    row_sums,
    squares,
)
from engramcka.similarity.parallel import Scratch, ordered_map
from engramcka.similarity.prepare import Prepared
from engramcka.similarity.split_products import PARTS

BLOCK = 256  # samples a block; a tile is a block against a block
_GPU_BLOCK = 1024  # at most, on a GPU: neighbours of one group are one block there
CALL_OPERATIONS = 5e6  # that a CPU does in the time in which a small product is set up
_MIN_BLOCKS = 32  # blocks where there are few samples, for the jackknife

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """Two models over one set of samples, cut into blocks and groups of blocks."""

    y: Prepared
    x: Prepared
    means: list[torch.Tensor]  # (width,) a layer, y's first
    blocks: list[tuple[int, int]]  # (start, stop) of each block of samples
    group_of: list[int]  # the jackknife group of each block
    hollow: bool  # whether the Gram matrices' diagonals are left out
    like: torch.Tensor  # of the dtype and on the device to compute with
    split: bool = field(default=False, kw_only=True)  # float32 products in three bfloat16 parts

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.y.n_samples

    @property
    def layers(self) -> int:
        """Layers of y and of x together."""
        return len(self.y) + len(self.x)

    @property
    def groups(self) -> int:
        """Number of jackknife groups."""
        return max(self.group_of) + 1

    @property
    def kinds(self) -> int:
        """Sums over the Gram matrices that there are, each with weights of its own."""
        return 1

    @property
    def pair_group(self) -> Ints:
        """(samples,) numbers: pairs of different samples with the same one do not count."""
        return np.arange(self.n)

    def weighted(
        self, block: int, other: int, tile: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """(kind, tile) of each kind of sum that a (layers, rows, columns) tile is part of.

        The products of all pairs of the tiles given are added up.
        """
        if block == other and self.hollow:
            tile.diagonal(dim1=1, dim2=2).zero_()
        yield 0, tile

    @property
    def group_ranges(self) -> list[tuple[int, int]]:
        """(start, stop) samples of each group."""
        first = [self.group_of.index(group) for group in range(self.groups)]
        starts = [self.blocks[block][0] for block in first]
        return list(zip(starts, [*starts[1:], self.blocks[-1][1]], strict=True))

    @property
    def splits(self) -> bool:
        """Whether features are float32 and their products made in three bfloat16 parts."""
        return self.split and self.like.dtype == torch.float32

    @property
    def sample_bytes(self) -> int:
        """Memory of one sample of all layers."""
        return sum(self.y.widths + self.x.widths) * self.like.element_size()

    @property
    def held_bytes(self) -> int:
        """The same where products are made of it: of its parts where it is split."""
        if not self.splits:
            return self.sample_bytes
        return sum(self.y.widths + self.x.widths) * PARTS * torch.bfloat16.itemsize

    def read(self, start: int, stop: int) -> list[torch.Tensor]:
        """All layers' centred features, (layers, samples, width) a run of layers, y's first."""
        y_count = len(self.y)
        return [
            *centred(self.y, start, stop, self.like, self.means[:y_count]),
            *centred(self.x, start, stop, self.like, self.means[y_count:]),
        ]

    def each_block(
        self, function: Callable[[int], Result], blocks: Sequence[int] | None = None
    ) -> Iterator[Result]:
        """function(block number) for each block, or these, in order, several at a time."""
        blocks = range(len(self.blocks)) if blocks is None else blocks
        return ordered_map(
            function,
            blocks,
            count=len(blocks),
            part_bytes=BLOCK * self.sample_bytes,
            device=self.like.device,
        )


@dataclass
class GroupProducts:
    """Inner products of Gram matrices, a jackknife group at a time; float64.

    With K_gh the rows of group g and columns of group h: `within` is sum K_gg L_gg, `against` is
    the sum over all h of sum K_gh L_gh.
    """

    within: Float  # (groups, kinds, y layers, x layers)
    against: Float  # (groups, kinds, y layers, x layers)
    own_within: Float  # (groups, kinds, layers of y and then of x)
    own_against: Float  # (groups, kinds, layers)
    removed: Float  # (layers,): what had to be taken off the sum of own_against, see `Hsic` terms

    @classmethod
    def zeros(cls, problem: Problem) -> GroupProducts:
        """Products of no sample, to add to."""
        pair, layers = (len(problem.y), len(problem.x)), (problem.layers,)
        leading = (problem.groups, problem.kinds)
        shapes = [(*leading, *pair)] * 2 + [(*leading, *layers)] * 2
        return cls(*(np.zeros(shape) for shape in [*shapes, layers]))

    @classmethod
    def of(cls, problem: Problem, sums: Float) -> GroupProducts:
        """From (2, groups, kinds, pairs of layers and then layers): within groups, and against."""
        pairs = len(problem.y) * len(problem.x)
        cross = sums[..., :pairs].reshape(*sums.shape[:3], len(problem.y), len(problem.x))
        own = sums[..., pairs:]
        return cls(cross[0], cross[1], own[0], own[1], np.zeros(problem.layers))


@dataclass(frozen=True)
class RowSums:
    """The parts of `hsic.PairSums` that come from row sums; entry 0 is over all samples, the
    others are without one group each."""

    n: Float  # (1 + groups,)
    row_cross: Float  # (1 + groups, y layers, x layers)
    row_own: Float  # (1 + groups, layers)
    total: Float  # (1 + groups, layers)


def make_problem(
    y: Prepared,
    x: Prepared,
    like: torch.Tensor,
    *,
    hollow: bool,
    max_groups: int,
    min_blocks: int = _MIN_BLOCKS,
    groups: Ints | None = None,
    split: bool = False,
    shuffles: bool = False,
) -> Problem:
    """Cut the samples into blocks and groups, and find the mean of every feature.

    Args:
        y: one model.
        x: the other.
        like: a tensor of the dtype and on the device to compute with.
        hollow: whether the Gram matrices' diagonals are left out.
        max_groups: most jackknife groups.
        min_blocks: fewest blocks, where there are so many samples.
        groups: (samples,) the group of each, those of one together; runs of blocks if left out.
        split: whether float32 products are made in three bfloat16 parts, see `split_products`.
        shuffles: whether samples are shuffled within blocks, which are then the same on any device.

    Raises:
        ComparisonError: a value is NaN or infinite.
    """
    n = y.n_samples
    if groups is None:
        size = min(BLOCK, -(-n // min_blocks))
        blocks = [(start, min(start + size, n)) for start in range(0, n, size)]
        count = min(max_groups, len(blocks))
        group_of = [block * count // len(blocks) for block in range(len(blocks))]
        if like.is_cuda and not shuffles:  # neighbours of one group together
            groups = np.repeat(group_of, [stop - start for start, stop in blocks])
    if groups is not None:
        blocks, group_of = grouped_blocks(groups, block_size(like.device))
    means = finite_means(y, x, like)
    return Problem(y, x, means, blocks, group_of, hollow, like, split=split)


def block_size(device: torch.device) -> int:
    """Most samples of a block where it is for the device to choose."""
    return BLOCK if device.type == "cpu" else _GPU_BLOCK


def grouped_blocks(
    groups: Ints, size: int = BLOCK, start: int = 0
) -> tuple[list[tuple[int, int]], list[int]]:
    """(start, stop) of blocks that each lie in one group, and their groups.

    Args:
        groups: (places,) the group of each, those of one together.
        size: most places of a block.
        start: number of the first place.
    """
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
    blocks = [
        (low, min(low + size, last))
        for first, last in pairwise(edges)
        for low in range(first, last, size)
    ]
    return [(low + start, high + start) for low, high in blocks], [
        int(groups[low]) for low, _ in blocks
    ]


def finite_means(y: Prepared, x: Prepared, like: torch.Tensor) -> list[torch.Tensor]:
    """(width,) mean of every layer, y's first; raises ComparisonError if one is not finite."""
    size = block_size(like.device)
    means = overall_means(y, like, size) + overall_means(x, like, size)
    if not bool(torch.cat(means).isfinite().all()):
        for side in (y, x):
            for start in range(0, y.n_samples, BLOCK):
                side.raise_if_nonfinite(np.arange(start, min(start + BLOCK, y.n_samples)))
    return means


def estimate(problem: Problem, products: GroupProducts, rows: RowSums) -> hsic.Hsic:
    """HSIC over all samples (entry 0) and without each group of samples (the others).

    The sums without group g are those over all, less those that touch g: 2 against_g - within_g.
    """
    cross = all_and_without(products.within, products.against)[:, 0]
    own = all_and_without(products.own_within, products.own_against)[:, 0]
    sums = hsic.PairSums(cross, own, rows.row_cross, rows.row_own, rows.total)
    with np.errstate(invalid="ignore", divide="ignore"):  # fewer than 4 samples without a group
        weights = (hsic.unbiased if problem.hollow else hsic.biased)(rows.n)
        values = hsic.combine(sums, weights)
    n = problem.n
    return replace(values, terms=values.terms + 2 * products.removed / (n * (n - 3)))


def all_and_without(within: Float, against: Float) -> Float:
    """(1 + groups, ...): the sum over all samples, and without each group."""
    total = against.sum(axis=0)
    return np.concatenate([total[None], total - 2 * against + within])


def row_pass(problem: Problem) -> tuple[RowSums, Moments]:
    """Row sums over all samples and without each group, and moments over all samples."""
    totals, found = _column_totals(problem)
    parts = problem.each_block(lambda block: _row_terms(problem, block, totals))
    terms = next(parts)
    for part in parts:
        terms = [whole + more for whole, more in zip(terms, part, strict=True)]
    n = problem.n
    counts = [n, *(n - (stop - start) for start, stop in problem.group_ranges)]
    arrays = (term.cpu().numpy() for term in terms)
    return RowSums(np.array(counts, dtype=np.float64), *arrays), found


def block_moments(problem: Problem) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """What gives the `moment_sums` of one block's features of all runs."""
    directions = [
        torch.stack(side.directions[first:last])
        for side in (problem.y, problem.x)
        for first, last, _ in side.runs()
    ]
    scratch = Scratch()

    def moments(features: list[torch.Tensor]) -> torch.Tensor:
        along = [
            torch.bmm(run, direction.to(run)[:, :, None])[:, :, 0]
            for run, direction in zip(features, directions, strict=True)
        ]
        columns = torch.cat([squares(row_blocks(run, scratch)).flatten() for run in features])
        return moment_sums(columns, torch.cat(along))

    return moments


def whole_rows(problem: Problem) -> torch.Tensor:
    """(layers, samples) float64 row sums over all samples."""
    totals, _ = _column_totals(problem)
    whole = [total[:, :, :1] for total in totals]
    return torch.cat(list(problem.each_block(lambda block: _rows(problem, block, whole))), 1)[
        :, :, 0
    ]


def _column_totals(problem: Problem) -> tuple[list[torch.Tensor], Moments]:
    """X' 1 as (layers, width, 1 + groups) a run: over all samples, and without each group."""
    moments_of = block_moments(problem)

    def block_sums(block: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        features = problem.read(*problem.blocks[block])
        return [run.sum(1).double() for run in features], moments_of(features)

    found: torch.Tensor | None = None
    groups: list[torch.Tensor] = []  # (layers, width, groups) a run
    for block, (sums, more) in enumerate(problem.each_block(block_sums)):
        groups = groups or [part.new_zeros((*part.shape, problem.groups)) for part in sums]
        found = more if found is None else found + more
        for total, part in zip(groups, sums, strict=True):
            total[:, :, problem.group_of[block]] += part
    assert found is not None
    totals = []
    for part in groups:
        whole = part.sum(-1, keepdim=True)
        totals.append(torch.cat([whole, whole - part], dim=-1).to(problem.like))
    return totals, collect(found, problem.layers, problem.n - 1)


def _row_terms(problem: Problem, block: int, totals: list[torch.Tensor]) -> list[torch.Tensor]:
    """One block's part of the fields of `RowSums` after n, in their order.

    A block adds nothing to the entry that leaves its own group out.
    """
    rows = _rows(problem, block, totals)
    rows[:, :, 1 + problem.group_of[block]] = 0
    y, x = rows[: len(problem.y)], rows[len(problem.y) :]
    cross = torch.bmm(y.permute(2, 0, 1), x.permute(2, 1, 0))
    return [cross, rows.square().sum(1).T, rows.sum(1).T]


def _rows(problem: Problem, block: int, totals: list[torch.Tensor]) -> torch.Tensor:
    """(layers, samples of the block, sets) row sums over each set of samples."""
    features = problem.read(*problem.blocks[block])
    rows = row_sums(features, totals)
    if problem.hollow:
        norms = torch.cat([torch.linalg.vector_norm(run, dim=2) for run in features])
        rows -= norms.double().square()[:, :, None]
    return rows
