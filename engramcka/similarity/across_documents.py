"""HSIC over all samples, of pairs of samples of different documents only.

The average of HSIC's kernel over all sets of four samples of four different documents (a
U-statistic: Hoeffding 1948; Song et al. 2012, section 2.2, is the case of one sample a document),
so that it is unbiased where documents, not samples, are drawn alike, and does not depend on where
features are centred. With K~ the Gram matrix without the pairs of one document, s_a the samples of
document a, n' and q' the sums of s and s^2 over the documents that are not left out, i and j
samples of documents a and b, C_ib the sum of K~_ij over j of b, B_ab that of C_ib over i of a, r_i
that of K~_ij over all j, R_a that of r_i over a, t that of all, and r^s_i = sum_j s_j K~_ij, it is

    sum_ij w_ab K~_ij L~_ij + 2 sum_ib (n' - s_a - 2 s_b) C_ib C'_ib + 2 sum_ab B_ab B'_ab
    - 2 sum_i [(n' - s_a) r_i r'_i - r^s_i r'_i - r_i r'^s_i] - 4 sum_a R_a R'_a + t t'

over the number of such sets, w_ab = n'^2 - q' - 2 n' (s_a + s_b) + 2 (s_a^2 + s_b^2 + s_a s_b)
being how many pairs complete (i, j) to one. Primed sums are those of L. C and B are Gram matrices
of samples and documents, whose features are the sums over their samples: all are tiles of one Gram
matrix of samples and documents together.

`all_pairs` estimates what the pairs of one document, which are left out here, would have changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engramcka.errors import OptionError
from engramcka.pinned import sent
from engramcka.results import Float
from engramcka.similarity import hsic
from engramcka.similarity.documents import Ints, pairs_within, share_within
from engramcka.similarity.exact import (
    GroupProducts,
    Problem,
    all_and_without,
    block_moments,
    block_size,
    finite_means,
    grouped_blocks,
)
from engramcka.similarity.gram_tiles import Moments, collect
from engramcka.similarity.hsic import Hsic, ratio
from engramcka.similarity.prepare import Prepared

FEWEST = 4  # documents
_KINDS = 6  # samples against samples: 3; samples against documents: 2; documents: 1
_PAIRS = 512  # of one document that are looked at


@dataclass(frozen=True)
class ProblemAcross(Problem):
    """Two models over one set of samples; places n and on stand for the documents."""

    documents: Ints  # (samples,) number of each sample's document, increasing
    groups_of: Ints  # (documents,) jackknife group of each, increasing

    @property
    def kinds(self) -> int:
        """Sums of different weights."""
        return _KINDS

    @property
    def pair_group(self) -> Ints:
        """Those of one document do not count."""
        return self.documents

    @cached_property
    def sizes(self) -> Ints:
        """(documents,) samples of each."""
        return np.bincount(self.documents)

    @cached_property
    def first(self) -> Ints:
        """(documents + 1,) first sample of each."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def sets(self) -> tuple[Float, Float]:
        """(1 + groups,) samples, and squares of the documents' sizes, in all and without each."""
        parts = []
        for power in (1, 2):
            values = self.sizes.astype(np.float64) ** power
            groups = np.bincount(self.groups_of, values)
            parts.append(np.concatenate([[values.sum()], values.sum() - groups]))
        return parts[0], parts[1]

    def read(self, start: int, stop: int) -> list[torch.Tensor]:
        """Features of places start to stop: samples, centred, and then documents, summed."""
        n = self.n
        parts = []
        if start < n:
            parts.append(super().read(start, min(stop, n)))
        if stop > n:
            parts.append(self.sums(max(start, n) - n, stop - n))
        return [torch.cat(runs, dim=1) for runs in zip(*parts, strict=True)]

    def sums(self, start: int, stop: int) -> list[torch.Tensor]:
        """(layers, documents, width) sums over the samples of documents start to stop."""
        first, last = int(self.first[start]), int(self.first[stop])
        which = sent(torch.from_numpy(self.documents[first:last] - start), self.like.device)
        return [
            # A product, which unlike index_add gives the same bits on a GPU each time.
            torch.matmul(
                (which == torch.arange(stop - start, device=which.device)[:, None]).to(run), run
            )
            for run in super().read(first, last)
        ]

    def weighted(
        self, block: int, other: int, tile: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The tile, without pairs of one document, times the roots of each kind of weight."""
        (a, a_is), (b, b_is) = self.documents_of(block), self.documents_of(other)
        tile.mul_(self.to(a[:, None] != b[None, :], tile))
        base = {(0, 0): 0, (0, 1): 3, (1, 1): 5}[a_is, b_is]
        yield base, tile
        if base == 5:
            return
        s, t = self.sizes[a].astype(np.float64)[:, None], self.sizes[b].astype(np.float64)[None]
        weights = [s + 2 * t] if base else [s + t, s**2 + t**2 + s * t]
        for kind, weight in enumerate(weights, start=base + 1):
            yield kind, tile * self.to(np.sqrt(weight), tile)

    def documents_of(self, block: int) -> tuple[Ints, int]:
        """The documents of a block's places, and whether the places are documents."""
        start, stop = self.blocks[block]
        if start >= self.n:
            return np.arange(start, stop) - self.n, 1
        return self.documents[start:stop], 0

    @staticmethod
    def to(values: npt.NDArray[Any], like: torch.Tensor) -> torch.Tensor:
        """Values as a tensor of like's dtype, on its device."""
        return sent(torch.from_numpy(values), like.device).to(like)


def make_problem_across(
    y: Prepared,
    x: Prepared,
    documents: Ints,
    groups: Ints,
    like: torch.Tensor,
    split: bool = False,
) -> ProblemAcross:
    """Cut samples and documents into blocks.

    Args:
        y: one model.
        x: the other.
        documents: (samples,) number of each sample's document, increasing.
        groups: (samples,) jackknife group of each, increasing.
        like: a tensor of the dtype and on the device to compute with.
        split: as in `make_problem`.

    Raises:
        OptionError: fewer than 4 documents.
        ComparisonError: a value that is not finite.
    """
    count = int(documents[-1]) + 1
    if count < FEWEST:
        raise OptionError(
            f"{len(documents)} samples are of {count} documents; pairs of different documents need "
            f"at least {FEWEST}; take more documents, or compare within documents too with "
            'pairs = "all"',
            "pairs",
        )
    of_documents = groups[np.unique(documents, return_index=True)[1]]
    size = block_size(like.device)
    blocks, group_of = grouped_blocks(groups, size)
    more, more_groups = grouped_blocks(of_documents, size, start=len(documents))
    return ProblemAcross(
        y,
        x,
        finite_means(y, x, like),
        blocks + more,
        group_of + more_groups,
        hollow=True,
        like=like,
        documents=documents,
        groups_of=of_documents,
        split=split,
    )


def estimate_across(problem: ProblemAcross, products: GroupProducts) -> tuple[hsic.Hsic, Moments]:
    """HSIC over all samples (entry 0) and without each group of documents, and moments.

    Without a group that leaves fewer than 4 documents the values are NaN.
    """
    n, q = (values[:, None] for values in problem.sets)
    factors = np.concatenate([n**2 - q, -2 * n, 2 + 0 * n, n, -1 + 0 * n, 2 + 0 * n], axis=1)
    cross = all_and_without(products.within, products.against)
    own = all_and_without(products.own_within, products.own_against)
    rows, moments = _row_terms(problem)
    count = sets_of_four(problem)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = np.einsum("sk,skyx->syx", factors, cross) + rows.cross
        terms = [factors[:, :, None] * own, rows.own[:, None]]
        values = sum(part.sum(axis=1) for part in terms)
        largest = sum(np.abs(part).sum(axis=1) for part in terms)
        scale = np.where(count > 0, 1 / count, np.nan)
    return (
        hsic.Hsic(pairs * scale[:, None, None], values * scale[:, None], largest * scale[:, None]),
        moments,
    )


def sets_of_four(problem: ProblemAcross) -> Float:
    """(1 + groups,) ordered sets of four samples of four documents: 24 e_4 of their sizes."""
    counts = []
    for group in range(-1, problem.groups):
        e = np.array([1.0, 0, 0, 0, 0])
        for size in problem.sizes[problem.groups_of != group].tolist():
            e[1:] += size * e[:-1]
        counts.append(24 * e[4])
    return np.array(counts)


@dataclass(frozen=True)
class _Rows:
    """The terms of row sums, (1 + groups, ..)."""

    cross: Float  # (sets, y layers, x layers)
    own: Float  # (sets, layers)


def _row_terms(problem: ProblemAcross) -> tuple[_Rows, Moments]:
    totals, moments = _totals(problem)
    sets = 1 + problem.groups
    y_count, layers = len(problem.y), problem.layers
    n = sent(torch.from_numpy(problem.sets[0]), problem.like.device)

    def terms(block: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        r, v, factor = _block_rows(problem, block, totals, n)
        y, x = slice(None, y_count), slice(y_count, None)
        pair = factor * (torch.bmm(r[:, y], v[:, x].mT) + torch.bmm(v[:, y], r[:, x].mT))
        whole = r.sum(2) if factor == -2 else torch.zeros_like(r[:, :, 0])
        return pair, 2 * factor * (r * v).sum(2), whole

    sums = [
        n.new_zeros((sets, *shape)) for shape in ((y_count, len(problem.x)), (layers,), (layers,))
    ]
    for part in problem.each_block(terms):
        for whole, more in zip(sums, part, strict=True):
            whole += more
    cross, own, total = (whole.cpu().numpy() for whole in sums)
    cross += total[:, :y_count, None] * total[:, None, y_count:]
    return _Rows(cross, own + total**2), moments


def _block_rows(
    problem: ProblemAcross, block: int, totals: tuple[list[torch.Tensor], ...], n: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(sets, layers, places) r and v of a block, whose terms are factor times (r v' + v r').

    Of samples r is r_i and v is (n' - s_a) r_i / 2 - r^s_i; of documents r is R_a and v a half.
    """
    start, stop = problem.blocks[block]
    features = problem.read(start, stop)
    of, are_documents = problem.documents_of(block)
    if are_documents:
        sums = features
    else:
        low, high = int(of[0]), int(of[-1]) + 1
        which = sent(torch.from_numpy(of - low), problem.like.device)
        sums = [run[:, which] for run in problem.sums(low, high)]
    own = torch.cat(
        [(a * b).sum(2, dtype=torch.float64) for a, b in zip(features, sums, strict=True)]
    )
    plain, by_size = (
        torch.cat([torch.bmm(a, t) for a, t in zip(features, side, strict=True)]).double()
        for side in totals
    )
    sizes = problem.to(problem.sizes[of].astype(np.float64), plain)
    r = (plain - own[:, :, None]).permute(2, 0, 1)
    r[1 + problem.group_of[block]] = 0
    if are_documents:
        return r, r / 2, -4.0
    v = (by_size - (sizes * own)[:, :, None]).permute(2, 0, 1)
    v = (n[:, None, None] - sizes) / 2 * r - v
    v[1 + problem.group_of[block]] = 0
    return r, v, -2.0


def _totals(
    problem: ProblemAcross,
) -> tuple[tuple[list[torch.Tensor], list[torch.Tensor]], Moments]:
    """(layers, width, sets) sums of the features, and of s times them, a run; and moments."""
    moments_of = block_moments(problem)

    def block_sums(block: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        features = problem.read(*problem.blocks[block])
        of, _ = problem.documents_of(block)
        sizes = problem.to(problem.sizes[of].astype(np.float64), features[0])
        weights = torch.stack([torch.ones_like(sizes), sizes])  # (2, samples)
        sums = [torch.matmul(weights, run).double() for run in features]  # (layers, 2, width)
        return sums, moments_of(features)

    of_samples = [block for block, (start, _) in enumerate(problem.blocks) if start < problem.n]
    parts = problem.each_block(block_sums, of_samples)
    found: torch.Tensor | None = None
    groups: list[torch.Tensor] = []  # (layers, 2, width, groups) a run
    for block, (sums, more) in zip(of_samples, parts, strict=True):
        groups = groups or [one.new_zeros((*one.shape, problem.groups)) for one in sums]
        found = more if found is None else found + more
        for total, one in zip(groups, sums, strict=True):
            total[..., problem.group_of[block]] += one
    assert found is not None
    plain, by_size = [], []
    for part in groups:
        whole = part.sum(-1, keepdim=True)
        both = torch.cat([whole, whole - part], dim=-1).to(problem.like)
        plain.append(both[:, 0])
        by_size.append(both[:, 1])
    return (plain, by_size), collect(found, problem.layers, problem.n - 1)


def all_pairs(
    y: Prepared, x: Prepared, documents: Ints, whole: Hsic, seed: int, like: torch.Tensor
) -> Float:
    """The similarity that all pairs of samples would give, those of one document among them.

    HSIC of all pairs is the mean of K_ij L_ij over pairs of different documents and over those of
    one, weighted by how many there are; the latter is estimated from a draw of them, alike, on
    features less the mean of the samples drawn.

    Args:
        y: one model.
        x: the other.
        documents: (samples,) number of each sample's document.
        whole: HSIC of pairs of different documents, with the linear kernel.
        seed: of the draw.
        like: a tensor of the dtype and on the device to compute with.

    Returns:
        (y layers, x layers).
    """
    share, pairs = share_within(documents), pairs_within(documents, _PAIRS, seed)
    rows, place = np.unique(pairs, return_inverse=True)
    one, other = torch.from_numpy(place.reshape(pairs.shape)).unbind(1)
    products = []
    for side in (y, x):
        kernel = []
        for index in range(len(side)):
            values = side.values_at(index, rows, like)
            values = values - values.mean(0)
            left, right = values[one.to(values.device)], values[other.to(values.device)]
            kernel.append((left * right).sum(1, dtype=torch.float64))
        products.append(torch.stack(kernel))
    cross = (products[0] @ products[1].T / len(pairs)).cpu().numpy()
    own = torch.cat(products).square().mean(1).cpu().numpy()
    mixed = Hsic(
        (1 - share) * whole.cross + share * cross,
        (1 - share) * whole.own + share * own,
        (1 - share) * whole.terms + share * own,
    )
    return ratio(mixed.cross, mixed)
