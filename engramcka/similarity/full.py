"""Estimators over all samples at once, exact, in memory independent of their number squared.

`debiased` is HSIC_1 over all samples, `biased` HSIC_0 (Kornblith et al. 2019). The inner products
of Gram matrices come by one of two routes, whichever costs fewer operations; all else comes from
sums over rows, in feature space. Knows nothing of intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import hsic
from engramcka.similarity.centring import centred, overall_means
from engramcka.similarity.inputs import Layers
from engramcka.similarity.workers import ordered_map

BLOCK = 256  # samples a block; a tile is a block against a block
CALL_OPERATIONS = 5e6  # that a CPU does in the time in which a small product is set up
_MIN_BLOCKS = 32  # blocks where there are few samples, for the jackknife

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """Two models over one set of samples, cut into blocks and groups of blocks."""

    y: Layers
    x: Layers
    means: list[torch.Tensor]  # (width,) a layer, y's first
    blocks: list[tuple[int, int]]  # (start, stop) of each block of samples
    group_of: list[int]  # the jackknife group of each block
    hollow: bool  # whether the Gram matrices' diagonals are left out
    like: torch.Tensor  # of the dtype and on the device to compute with

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.blocks[-1][1] - self.blocks[0][0]

    @property
    def layers(self) -> int:
        """Layers of y and of x together."""
        return len(self.y) + len(self.x)

    @property
    def groups(self) -> int:
        """Number of jackknife groups."""
        return self.group_of[-1] + 1

    @property
    def group_ranges(self) -> list[tuple[int, int]]:
        """(start, stop) samples of each group."""
        first = [self.group_of.index(group) for group in range(self.groups)]
        starts = [self.blocks[block][0] for block in first]
        return list(zip(starts, [*starts[1:], self.blocks[-1][1]], strict=True))

    @property
    def sample_bytes(self) -> int:
        """Memory of one sample of all layers."""
        return sum(self.y.widths + self.x.widths) * self.like.element_size()

    def read(self, start: int, stop: int) -> list[torch.Tensor]:
        """All layers' centred features, (layers, samples, width) a run of layers, y's first."""
        y_count = len(self.y)
        return [
            *centred(self.y, start, stop, self.like, self.means[:y_count]),
            *centred(self.x, start, stop, self.like, self.means[y_count:]),
        ]

    def each_block(self, function: Callable[[int], Result]) -> Iterator[Result]:
        """function(block number) for each block, in order, several at a time."""
        return ordered_map(
            function,
            range(len(self.blocks)),
            count=len(self.blocks),
            part_bytes=BLOCK * self.sample_bytes,
            device=self.like.device,
        )


@dataclass
class GroupProducts:
    """Inner products of Gram matrices, a jackknife group at a time; float64.

    With K_gh the rows of group g and columns of group h: `within` is sum K_gg L_gg, `against` is
    the sum over all h of sum K_gh L_gh.
    """

    within: Float  # (groups, y layers, x layers)
    against: Float  # (groups, y layers, x layers)
    own_within: Float  # (groups, layers of y and then of x)
    own_against: Float  # (groups, layers)
    removed: Float  # (layers,): what had to be taken off the sum of own_against, see `Hsic` terms

    def __iadd__(self, other: GroupProducts) -> GroupProducts:
        for name, value in vars(other).items():
            getattr(self, name)[...] += value
        return self

    @classmethod
    def zeros(cls, problem: Problem) -> GroupProducts:
        """No products yet."""
        pair, layers = (len(problem.y), len(problem.x)), (problem.layers,)
        leading = [(problem.groups, *pair)] * 2 + [(problem.groups, *layers)] * 2
        return cls(*(np.zeros(shape) for shape in [*leading, layers]))


@dataclass(frozen=True)
class RowSums:
    """The parts of `hsic.PairSums` that come from row sums; entry 0 is over all samples, the
    others are without one group each."""

    n: Float  # (1 + groups,)
    row_cross: Float  # (1 + groups, y layers, x layers)
    row_own: Float  # (1 + groups, layers)
    total: Float  # (1 + groups, layers)


def pose(
    y: Layers,
    x: Layers,
    like: torch.Tensor,
    *,
    hollow: bool,
    max_groups: int,
    min_blocks: int = _MIN_BLOCKS,
) -> Problem:
    """Cut the samples into blocks and groups, and find the mean of every feature.

    Args:
        y: one model.
        x: the other.
        like: a tensor of the dtype and on the device to compute with.
        hollow: whether the Gram matrices' diagonals are left out.
        max_groups: most jackknife groups.
        min_blocks: fewest blocks, where there are so many samples.

    Raises:
        ComparisonError: a value is NaN or infinite.
    """
    n = y.n_samples
    size = min(BLOCK, -(-n // min_blocks))
    blocks = [(start, min(start + size, n)) for start in range(0, n, size)]
    groups = min(max_groups, len(blocks))
    group_of = [block * groups // len(blocks) for block in range(len(blocks))]
    means = overall_means(y, like, BLOCK) + overall_means(x, like, BLOCK)
    if not all(bool(mean.isfinite().all()) for mean in means):
        for side in (y, x):
            for start, stop in blocks:
                side.raise_if_nonfinite(start, stop)
    return Problem(y, x, means, blocks, group_of, hollow, like)


def estimate(problem: Problem, products: GroupProducts, rows: RowSums) -> hsic.Hsic:
    """HSIC over all samples (entry 0) and without each group of samples (the others).

    The sums without group g are those over all, less those that touch g: 2 against_g - within_g.
    """
    cross = _all_and_without(products.within, products.against)
    own = _all_and_without(products.own_within, products.own_against)
    sums = hsic.PairSums(cross, own, rows.row_cross, rows.row_own, rows.total)
    with np.errstate(invalid="ignore", divide="ignore"):  # fewer than 4 samples without a group
        weights = (hsic.unbiased if problem.hollow else hsic.biased)(rows.n)
        values = hsic.combine(sums, weights)
    n = problem.n
    return replace(values, terms=values.terms + 2 * products.removed / (n * (n - 3)))


def _all_and_without(within: Float, against: Float) -> Float:
    """(1 + groups, ...): the sum over all samples, and without each group."""
    total = against.sum(axis=0)
    return np.concatenate([total[None], total - 2 * against + within])
