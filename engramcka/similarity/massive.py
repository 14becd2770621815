"""Samples that are far out, and how much of a layer's HSIC rests on a few.

Some tokens of a language model (the first of a passage, lone delimiters) are a hundred times as far
out as others (Sun et al. 2024, massive activations): a Gram matrix is then about them alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from engramcka.pinned import sent
from engramcka.results import Float
from engramcka.similarity.constants import FAR
from engramcka.similarity.documents import Ints
from engramcka.similarity.exact import Problem

TOP = 0.01  # share of the samples that a layer should not rest on
_MOST_TOP = 256  # samples of them that are followed over all samples


@dataclass(frozen=True)
class Outliers:
    """The samples farthest from their layer's centre, of one batch or of several together."""

    distances: Float  # (layers, candidates) squared distances from the mean of the farthest
    sums: Float  # (layers, candidates) what each adds to sum K~_ij^2, see `_added`
    own: Float  # (layers,) sum_ij K~_ij^2
    massive: Float  # (layers,) samples that are massive in each layer
    samples: Ints  # (massive samples,) those of any layer, in increasing order
    n: int  # samples in all

    def __add__(self, other: Outliers) -> Outliers:
        return Outliers(
            np.concatenate([self.distances, other.distances], axis=1),
            np.concatenate([self.sums, other.sums], axis=1),
            self.own + other.own,
            self.massive + other.massive,
            np.union1d(self.samples, other.samples),
            self.n + other.n,
        )

    @property
    def top_share(self) -> Float:
        """(layers,) share of sum_ij K~_ij^2 in pairs with one of the farthest 1 % of samples."""
        count = min(self.distances.shape[1], max(1, math.ceil(TOP * self.n)))
        order = np.argsort(-self.distances, axis=1, kind="stable")[:, :count]
        top = np.take_along_axis(self.sums, order, axis=1).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.own > 0, np.minimum(top / self.own, 1.0), np.nan)


def candidates(n: int) -> int:
    """How many of the farthest samples of a batch are followed: more than it has of the top."""
    return min(n, math.ceil(2 * TOP * n))


def farthest_samples(features: torch.Tensor, lengths: torch.Tensor, count: int) -> torch.Tensor:
    """The farthest samples of one batch.

    Args:
        features: (layers, samples, width), centred.
        lengths: (layers, samples), their squared lengths.
        count: samples to follow.

    Returns:
        (2, layers, count): squared lengths, and what each adds to sum K~_ij^2; float64.
    """
    longest, where = lengths.topk(count, dim=1)
    rows = features.gather(1, where[:, :, None].expand(-1, -1, features.shape[2]))
    return torch.stack([longest.double(), added_by(torch.bmm(rows, features.mT), where)])


def added_by(products: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """What each of the farthest samples adds to sum K~_ij^2, (layers, count) float64.

    Args:
        products: (layers, count, samples) of theirs with all, the farthest's first; overwritten.
        where: (layers, count) which they are.
    """
    squares = products.square_()
    squares.scatter_(2, where[:, :, None], 0)
    among = squares.gather(2, where[:, None].expand(-1, where.shape[1], -1))
    return _added(squares.sum(2, dtype=torch.float64), among)


def _added(sums: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """What each of the farthest samples adds to the sum of K~_ij^2 over pairs with one of them.

    Each pair counts twice, with the farther of its samples: added up from the first to any, they
    are the pairs that those samples are in.

    Args:
        sums: (layers, count) sum_j K~_ij^2, the farthest sample first.
        among: (layers, count, count) K~_ij^2 of pairs of them.
    """
    return 2 * (sums - among.tril(-1).sum(2, dtype=torch.float64)).clamp_(min=0)


def find_outliers(problem: Problem, own: Float) -> Outliers:
    """The farthest samples over all samples at once; two passes.

    Args:
        problem: the samples, centred.
        own: (layers,) sum_ij K~_ij^2, with the diagonal where it counts.
    """
    blocks = [block for block in range(len(problem.blocks)) if problem.blocks[block][0] < problem.n]
    shifts = shifts_of(problem)

    def far(block: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = problem.read(*problem.blocks[block])
        lengths = torch.cat([torch.linalg.vector_norm(run, dim=2) for run in features])
        moved = torch.cat(
            [
                torch.linalg.vector_norm(run + shift[:, None].to(run), dim=2)
                for run, shift in zip(features, shifts, strict=True)
            ]
        )
        return lengths.double().square(), moved.double()

    parts = list(problem.each_block(far, blocks))
    lengths = torch.cat([one for one, _ in parts], dim=1)
    distances = torch.cat([one for _, one in parts], dim=1)
    massive = distances > FAR * _typical(problem)[:, None].to(distances)
    count = min(_MOST_TOP, max(1, math.ceil(TOP * problem.n)))
    longest, where = lengths.topk(count, dim=1)
    rows = _rows_at(problem, where)
    pair_group = sent(torch.from_numpy(problem.pair_group), problem.like.device)

    def squares(block: int) -> torch.Tensor:
        start, stop = problem.blocks[block]
        features = problem.read(start, stop)
        products = torch.cat([torch.bmm(a, b.mT) for a, b in zip(rows, features, strict=True)])
        products.square_().mul_(pair_group[where][:, :, None] != pair_group[start:stop])
        return products.sum(2, dtype=torch.float64)

    sums = torch.zeros_like(longest)
    for part in problem.each_block(squares, blocks):
        sums += part
    among = torch.cat([torch.bmm(run, run.mT) for run in rows]).square_()
    among.mul_(pair_group[where][:, :, None] != pair_group[where][:, None])
    added = _added(sums, among)
    if not problem.hollow:
        added += longest.square()
    return Outliers(
        longest.cpu().numpy(),
        added.cpu().numpy(),
        own,
        massive.sum(1).double().cpu().numpy(),
        np.flatnonzero(massive.any(0).cpu().numpy()),
        problem.n,
    )


def shifts_of(problem: Problem) -> list[torch.Tensor]:
    """(layers, width) a run: each layer's mean less its centre."""
    shifts, first = [], 0
    for side in (problem.y, problem.x):
        for start, stop, _ in side.runs():
            means = torch.stack(problem.means[first : first + stop - start])
            shifts.append(means - torch.stack(side.centres[start:stop]).to(means))
            first += stop - start
    return shifts


def _typical(problem: Problem) -> torch.Tensor:
    """(layers,) typical distance from the centre."""
    values = [*problem.y.distances, *problem.x.distances]
    return sent(torch.tensor(values, dtype=torch.float64), problem.like.device)


def _rows_at(problem: Problem, where: torch.Tensor) -> list[torch.Tensor]:
    """(layers, count, width) centred features a run, of each layer's own samples."""
    places = where.cpu().numpy()
    runs, first = [], 0
    for side in (problem.y, problem.x):
        for start, stop, _ in side.runs():
            layers = []
            for index in range(start, stop):
                samples = places[first]
                order = np.argsort(samples)
                block = side.values_at(index, samples[order], problem.like)
                back = sent(torch.from_numpy(np.argsort(order)), block.device)
                layers.append((block - problem.means[first])[back])
                first += 1
            runs.append(torch.stack(layers))
    return runs
