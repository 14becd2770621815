"""Inner products of Gram matrices from feature space: n width^2 operations a pair of layers.

sum_ij K_ij L_ij = |X' Y|^2, and between groups g and h of samples <X_g' Y_g, X_h' Y_h>. Samples
are read a group at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity.exact import CALL_OPERATIONS, GroupProducts, Problem, Progress
from engramcka.similarity.gram_tiles import all_products, centred_layer
from engramcka.similarity.parallel import Share, ordered_map, split_consecutive

PRODUCT_BYTES = 192 * 2**20  # of X_g' Y_g held for all groups; wide layers are cut into columns
LAYER_BYTES = 256 * 2**20  # a layer up to this size is held while its pairs are made
_STEP = 1024  # samples in one product: longer sums lose digits in float32


@dataclass(frozen=True)
class _Layer:
    """Centred features of one layer."""

    width: int
    read: Callable[[int, int], torch.Tensor]  # (start, stop) -> (samples, width)


def operations(problem: Problem) -> float:
    """Multiplications and additions of all pairs and of each layer with itself.

    No product of a group counts less than `CALL_OPERATIONS`: narrow layers cost as much.
    """
    y, x = np.array(problem.y.widths, float), np.array(problem.x.widths, float)
    own = np.concatenate([y, x]) ** 2
    areas = np.concatenate([np.outer(y, x).ravel(), own])
    a_group = np.maximum(2 * problem.n / problem.groups * areas, CALL_OPERATIONS)
    return float(problem.groups * a_group.sum())


def products(problem: Problem, share: Share, on_progress: Progress | None = None) -> GroupProducts:
    """All inner products, a jackknife group at a time."""
    y_count, widths = len(problem.y), problem.y.widths + problem.x.widths
    pairs = [
        (number, other)
        for number in range(problem.layers)
        for other in (number, *(range(y_count, problem.layers) if number < y_count else ()))
    ]

    def work(mine: list[int]) -> Iterator[tuple[Float, Float]]:
        held, layer = None, None
        for done, (number, other) in enumerate((pairs[pair] for pair in mine), start=1):
            if layer is None or number != held:
                held, layer = number, _layer(problem, number, hold=True)
            partner = layer if other == number else _layer(problem, other, hold=False)
            yield _pair(problem, layer, partner)
            if on_progress is not None:
                on_progress(done, len(mine))

    costs = [float(widths[number] * widths[other]) for number, other in pairs]
    found = share.ordered_gather(costs, split_consecutive, work)
    result = GroupProducts.zeros(problem)
    for (number, other), (within, against) in zip(pairs, found, strict=True):
        if other == number:
            result.own_within[:, 0, number], result.own_against[:, 0, number] = within, against
        else:
            result.within[:, 0, number, other - y_count] = within
            result.against[:, 0, number, other - y_count] = against
    if problem.hollow:
        _remove_diagonals(problem, result)
    return result


def _layer(problem: Problem, number: int, hold: bool) -> _Layer:
    """One layer, y's first; kept in memory if that is asked for and it is small enough."""
    y_count = len(problem.y)
    side, index = (problem.y, number) if number < y_count else (problem.x, number - y_count)
    mean, like, width = problem.means[number], problem.like, side.widths[index]

    def read(start: int, stop: int) -> torch.Tensor:
        return centred_layer(side, index, start, stop, like, mean)

    if not hold or side.n_samples * width * like.element_size() > LAYER_BYTES:
        return _Layer(width, read)
    whole = like.new_empty((side.n_samples, width))
    for start, stop in problem.group_ranges:
        whole[start:stop] = read(start, stop)
    return _Layer(width, lambda start, stop: whole[start:stop])


def _pair(problem: Problem, left: _Layer, right: _Layer) -> tuple[Float, Float]:
    """(groups,) products within each group, and of each group with all."""
    step = PRODUCT_BYTES // (problem.groups * left.width * problem.like.element_size())
    products = np.zeros((problem.groups, problem.groups))
    for first in range(0, right.width, max(step, 1)):
        columns = slice(first, first + max(step, 1))
        parts = torch.stack(_group_products(problem, left, right, columns))
        products += all_products(parts).cpu().numpy()
    return np.diagonal(products), products.sum(axis=1)


def _group_products(
    problem: Problem, left: _Layer, right: _Layer, columns: slice
) -> list[torch.Tensor]:
    """X_g' Y_g for each group, (width of X, columns of Y)."""

    def product(samples: tuple[int, int]) -> torch.Tensor:
        edges = [*range(samples[0], samples[1], _STEP), samples[1]]
        total = left.read(edges[0], edges[1]).T @ right.read(edges[0], edges[1])[:, columns]
        for start, stop in pairwise(edges[1:]):
            total += left.read(start, stop).T @ right.read(start, stop)[:, columns]
        return total

    ranges = problem.group_ranges
    part_bytes = _STEP * (left.width + right.width) * problem.like.element_size()
    return list(
        ordered_map(
            product, ranges, count=len(ranges), part_bytes=part_bytes, device=problem.like.device
        )
    )


def _remove_diagonals(problem: Problem, result: GroupProducts) -> None:
    """Take sum_i K_ii L_ii off the sums: those of K~ have none."""
    y_count = len(problem.y)

    def squared_norms(block: int) -> torch.Tensor:
        features = problem.read(*problem.blocks[block])
        return torch.cat([torch.linalg.vector_norm(run, dim=2) for run in features]) ** 2

    for block, norms in enumerate(problem.each_block(squared_norms)):
        norms = norms.double()
        group = problem.group_of[block]
        pairs = (norms[:y_count] @ norms[y_count:].T).cpu().numpy()
        own = norms.square().sum(1).cpu().numpy()
        for total in (result.within, result.against):
            total[group, 0] -= pairs
        for total in (result.own_within, result.own_against):
            total[group, 0] -= own
        result.removed += own
