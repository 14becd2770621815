"""Sums over the rows of Gram matrices of all samples, and of all but one group, at n width each.

K 1 = X (X' 1): no Gram matrix is made. Two passes over the samples. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from engramcka.similarity.diagnostics import Moments, collect, row_blocks, squares
from engramcka.similarity.full import Problem, RowSums
from engramcka.similarity.sums import row_sums
from engramcka.similarity.workers import Scratch


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


def block_moments(problem: Problem) -> Callable[[list[torch.Tensor]], Moments]:
    """What gives the moments, without degrees of freedom, of one block's features of all runs."""
    directions = [
        torch.stack(side.directions[first:last])
        for side in (problem.y, problem.x)
        for first, last, _ in side.runs()
    ]
    scratch = Scratch()

    def moments(features: list[torch.Tensor]) -> Moments:
        along = [
            torch.bmm(run, direction.to(run)[:, :, None])[:, :, 0]
            for run, direction in zip(features, directions, strict=True)
        ]
        columns = torch.cat([squares(row_blocks(run, scratch)).flatten() for run in features])
        return collect(columns, torch.cat(along), 0)

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

    def block_sums(block: int) -> tuple[list[torch.Tensor], Moments]:
        features = problem.read(*problem.blocks[block])
        return [run.sum(1).double() for run in features], moments_of(features)

    found: Moments | None = None
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
    return totals, Moments(problem.n - 1, found.columns, found.along)


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
