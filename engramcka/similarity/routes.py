"""Two ways to the inner products of Gram matrices; the one of fewer operations is taken.

Tile by tile, n^2 width operations a layer: a tile, one block of samples against another, is made
for all layers, its products are added up, and it is thrown away. Only the upper half is computed.

From feature space, n width^2 operations a pair of layers: sum_ij K_ij L_ij = |X' Y|^2, and between
groups g and h of samples <X_g' Y_g, X_h' Y_h>. Samples are read a group at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from engramcka.pinned import sent
from engramcka.results import Float
from engramcka.similarity.exact import (
    BLOCK,
    CALL_OPERATIONS,
    GroupProducts,
    Problem,
    Progress,
    Result,
)
from engramcka.similarity.gram_tiles import (
    all_products,
    centred_layer,
    linear_tile,
    pair_products,
    sides,
)
from engramcka.similarity.parallel import Share, ordered_map, split_balanced, split_consecutive
from engramcka.similarity.reading import (
    held_layers,
    layer_bytes,
    panel_blocks,
    panel_bytes,
    product_bytes,
)
from engramcka.similarity.split_products import split, split_product_over

_MAX_PORTIONS = 96  # of the work: every number of processes up to 8 gets nearly equal shares
_MIN_PORTIONS = 8
_PORTIONS_BYTES = 2**27  # for the sums of all portions
_HELD_STEP = 8192  # samples of a layer that are read at once to be held
_STEP = 1024  # samples in one product: longer sums lose digits in float32


@dataclass(frozen=True)
class TileRow:
    """A row of tiles: one block against the blocks of a panel that are not before it."""

    block: int
    left: list[torch.Tensor]
    others: range
    panel: list[torch.Tensor]
    start: int  # first sample of the panel


def gram_operations(problem: Problem) -> float:
    """Multiplications and additions: half of each Gram matrix, and the products of all pairs.

    No tile counts less than `CALL_OPERATIONS`.
    """
    pairs = len(problem.y) * len(problem.x) + problem.layers
    width = sum(problem.y.widths) + sum(problem.x.widths)
    count = len(problem.blocks) * (len(problem.blocks) + 1) / 2
    places = float(problem.blocks[-1][1])
    return max(places**2 * (width + pairs), count * CALL_OPERATIONS)


def gram_products(
    problem: Problem, share: Share, on_progress: Progress | None = None
) -> GroupProducts:
    """All inner products, a jackknife group at a time."""
    cells = len(problem.y) * len(problem.x) + problem.layers
    shape = (2 * problem.groups, problem.kinds * cells)  # within groups, and then against all
    portions = row_portions(problem, 8 * math.prod(shape))

    def work(mine: list[int]) -> Iterable[Float]:
        wide = torch.float64
        sums = {number: problem.like.new_zeros(shape, dtype=wide) for number in mine}
        owner = {block: number for number in mine for block in portions[number]}
        total = sum(row_counts(problem, owner))
        rows = each_row(problem, lambda row: (row, _row_products(problem, row)), owner)
        for done, (row, values) in enumerate(rows, start=1):
            weights = sent(torch.from_numpy(_row_weights(problem, row)), values.device)
            sums[owner[row.block]].addmm_(weights, values)
            if on_progress is not None:
                on_progress(done, total)
        return torch.stack(list(sums.values())).cpu().numpy()  # from a GPU in one copy

    found = share.ordered_gather(row_costs(problem, portions), split_balanced, work)
    result = sum(found[1:], start=found[0])
    return GroupProducts.of(problem, result.reshape(2, problem.groups, problem.kinds, cells))


def portions_held(portion_bytes: int) -> int:
    """How many portions the work may be cut into: the sums of all are held at once."""
    return max(_MIN_PORTIONS, _PORTIONS_BYTES // portion_bytes)


def row_portions(problem: Problem, portion_bytes: int) -> list[list[int]]:
    """The rows of tiles of each portion of the work, however many processes there are.

    Args:
        problem: what is to be done.
        portion_bytes: memory for the sums of one portion.
    """
    count = len(problem.blocks)
    portions = min(count, _MAX_PORTIONS, portions_held(portion_bytes))
    there_and_back = [*range(portions), *reversed(range(portions))]  # long rows with short ones
    owner = [there_and_back[block % (2 * portions)] for block in range(count)]
    return [[block for block in range(count) if owner[block] == n] for n in range(portions)]


def row_costs(problem: Problem, portions: list[list[int]]) -> list[float]:
    """Tiles of each portion."""
    return [float(sum(len(problem.blocks) - block for block in rows)) for rows in portions]


def row_counts(problem: Problem, blocks: Collection[int]) -> Iterator[int]:
    """How many rows of tiles of these blocks each pair of panels has."""
    for left, _ in _panels(problem):
        yield sum(block in blocks for block in left)


def each_row(
    problem: Problem, function: Callable[[TileRow], Result], blocks: Collection[int]
) -> Iterator[Result]:
    """function(row of tiles) for these rows of the upper half, in order, several at a time."""
    return ordered_map(
        function,
        _tile_rows(problem, blocks),
        count=len(problem.blocks),
        part_bytes=problem.layers * BLOCK**2 * problem.like.element_size(),
        device=problem.like.device,
    )


def _panels(problem: Problem) -> Iterator[tuple[range, range]]:
    """Pairs of panels, ranges of blocks, that cover the upper half of the matrix."""
    largest = max(stop - start for start, stop in problem.blocks)
    size = panel_blocks(panel_bytes(problem.like.device), largest, problem.held_bytes)
    count = len(problem.blocks)
    ranges = [range(start, min(start + size, count)) for start in range(0, count, size)]
    for i, left in enumerate(ranges):
        for right in ranges[i:]:
            yield left, right


def _tile_rows(problem: Problem, blocks: Collection[int]) -> Iterator[TileRow]:
    """The rows of tiles of these blocks in every pair of panels.

    A panel is read once a pair, unless none of the pair's rows are asked for.
    """
    held, left, left_start = None, [], 0
    for rows, columns in _panels(problem):
        if not any(block in blocks for block in rows):
            continue
        start, stop = problem.blocks[columns[0]][0], problem.blocks[columns[-1]][1]
        panel = problem.read(start, stop)
        if problem.splits:
            panel = [split(run) for run in panel]
        if rows != held:  # the first pair of a row of panels is a panel with itself
            held, left, left_start = rows, panel, start
        for block in (block for block in rows if block in blocks):
            a, b = (edge - left_start for edge in problem.blocks[block])
            others = range(max(block, columns[0]), columns[-1] + 1)
            yield TileRow(block, [run[:, a:b] for run in left], others, panel, start)


def tiles(problem: Problem, row: TileRow) -> Iterator[tuple[int, torch.Tensor]]:
    """(other block, (layers, rows, columns)) of each tile of a row; overwritten by the next."""
    size = max(stop - start for start, stop in problem.blocks)
    out = problem.like.new_empty(problem.layers * size**2)
    for other in row.others:
        a, b = (edge - row.start for edge in problem.blocks[other])
        yield other, linear_tile(row.left, [run[:, a:b] for run in row.panel], out)


def _row_products(problem: Problem, row: TileRow) -> torch.Tensor:
    """Inner products of a row of tiles, (tiles, kinds times pairs of layers and layers) float64."""
    y_count, x_count = len(problem.y), len(problem.x)
    leading = (len(row.others), problem.kinds)
    cells = y_count * x_count
    values = problem.like.new_zeros((*leading, cells + problem.layers), dtype=torch.float64)
    cross = values[..., :cells].view(*leading, y_count, x_count)
    own = values[..., cells:]
    for number, (other, tile) in enumerate(tiles(problem, row)):
        for kind, part in problem.weighted(row.block, other, tile):
            if part.is_cuda:  # one product for all: a kernel costs more than what is not wanted
                both = all_products(part)
                cross[number, kind] = both[:y_count, y_count:]
                own[number, kind] = both.diagonal()
            else:
                cross[number, kind], own[number, kind] = pair_products(sides(part, y_count))
    return values.flatten(1)


def _row_weights(problem: Problem, row: TileRow) -> Float:
    """(2 groups, tiles) how often each tile counts within each group, and against all, float64."""
    group = problem.group_of[row.block]
    weights = np.zeros((2, problem.groups, len(row.others)))
    weights[1, group] = 1
    for number, other in enumerate(row.others):
        mirrored = other != row.block
        weights[1, problem.group_of[other], number] += mirrored
        if problem.group_of[other] == group:
            weights[0, group, number] = 1 + mirrored
    return weights.reshape(2 * problem.groups, -1)


@dataclass(frozen=True)
class _Layer:
    """Centred features of one layer."""

    width: int
    read: Callable[[int, int], torch.Tensor]  # (start, stop) -> (samples, width)


def feature_operations(problem: Problem) -> float:
    """Multiplications and additions of all pairs and of each layer with itself.

    No product of a group counts less than `CALL_OPERATIONS`: narrow layers cost as much.
    """
    y, x = np.array(problem.y.widths, float), np.array(problem.x.widths, float)
    own = np.concatenate([y, x]) ** 2
    areas = np.concatenate([np.outer(y, x).ravel(), own])
    a_group = np.maximum(2 * problem.n / problem.groups * areas, CALL_OPERATIONS)
    return float(problem.groups * a_group.sum())


def feature_products(
    problem: Problem, share: Share, on_progress: Progress | None = None
) -> GroupProducts:
    """All inner products, a jackknife group at a time."""
    widths = problem.y.widths + problem.x.widths
    pairs = _pairs(problem)

    def work(mine: list[int]) -> Iterable[Float]:
        left: dict[int, _Layer] = {}
        right: dict[int, _Layer] = {}
        sums = []
        for done, (number, other) in enumerate((pairs[pair] for pair in mine), start=1):
            left = {one: layer for one, layer in left.items() if number in _beside(problem, one)}
            if number not in left:
                left[number] = _layer(problem, number, hold=True)
            if other != number and other not in right:
                hold = len(_beside(problem, number)) > 1
                right = {other: _layer(problem, other, hold=hold)}
            sums.append(
                _pair(problem, left[number], left[number] if other == number else right[other])
            )
            if on_progress is not None:
                on_progress(done, len(mine))
        return torch.stack(sums).cpu().numpy()  # from a GPU in one copy

    costs = [float(widths[number] * widths[other]) for number, other in pairs]
    found = share.ordered_gather(costs, split_consecutive, work)
    result, y_count = GroupProducts.zeros(problem), len(problem.y)
    for (number, other), (within, against) in zip(pairs, found, strict=True):
        if other == number:
            result.own_within[:, 0, number], result.own_against[:, 0, number] = within, against
        else:
            result.within[:, 0, number, other - y_count] = within
            result.against[:, 0, number, other - y_count] = against
    if problem.hollow:
        _remove_diagonals(problem, result)
    return result


def _beside(problem: Problem, number: int) -> range:
    """The layers that are held together with this one while their pairs are made."""
    y_count, like = len(problem.y), problem.like
    if number >= y_count:
        return range(number, number + 1)
    layer = problem.n * max(problem.y.widths) * like.element_size()
    count = held_layers(layer_bytes(like.device), layer)
    first = number // count * count
    return range(first, min(first + count, y_count))


def _pairs(problem: Problem) -> list[tuple[int, int]]:
    """All pairs of layers, and each with itself, so that layers held together are neighbours."""
    y_count, layers, pairs, first = len(problem.y), problem.layers, [], 0
    while first < y_count:
        held = _beside(problem, first)
        pairs += [(number, number) for number in held]
        pairs += [(number, other) for other in range(y_count, layers) for number in held]
        first = held.stop
    return pairs + [(number, number) for number in range(y_count, layers)]


def _layer(problem: Problem, number: int, hold: bool) -> _Layer:
    """One layer, y's first; kept in memory if that is asked for and it is small enough."""
    y_count = len(problem.y)
    side, index = (problem.y, number) if number < y_count else (problem.x, number - y_count)
    mean, like, width = problem.means[number], problem.like, side.widths[index]

    def read(start: int, stop: int) -> torch.Tensor:
        return centred_layer(side, index, start, stop, like, mean)

    if not hold or side.n_samples * width * like.element_size() > layer_bytes(like.device):
        return _Layer(width, read)
    whole = like.new_empty((side.n_samples, width))
    for start, stop in problem.group_ranges:
        for low in range(start, stop, _HELD_STEP):
            high = min(low + _HELD_STEP, stop)
            whole[low:high] = read(low, high)
    return _Layer(width, lambda start, stop: whole[start:stop])


def _pair(problem: Problem, left: _Layer, right: _Layer) -> torch.Tensor:
    """(2, groups) products within each group, and of each group with all; float64."""
    like = problem.like
    column = problem.groups * left.width * like.element_size()
    step = max(1, int(product_bytes(like.device) // column))
    products = like.new_zeros((problem.groups, problem.groups), dtype=torch.float64)
    for first in range(0, right.width, step):
        parts = torch.stack(_group_products(problem, left, right, slice(first, first + step)))
        products += all_products(parts)
    return torch.stack([products.diagonal(), products.sum(1)])


def _group_products(
    problem: Problem, left: _Layer, right: _Layer, columns: slice
) -> list[torch.Tensor]:
    """X_g' Y_g for each group, (width of X, columns of Y)."""

    def step(start: int, stop: int) -> torch.Tensor:
        x, y = left.read(start, stop), right.read(start, stop)[:, columns]
        return split_product_over(x, y) if problem.splits else x.T @ y

    def product(samples: tuple[int, int]) -> torch.Tensor:
        edges = [*range(samples[0], samples[1], _STEP), samples[1]]
        total = step(edges[0], edges[1])
        for start, stop in pairwise(edges[1:]):
            total += step(start, stop)
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

    like, layers = problem.like, problem.layers
    pairs = like.new_zeros((problem.groups, y_count, layers - y_count), dtype=torch.float64)
    own = like.new_zeros((problem.groups, layers), dtype=torch.float64)
    for block, norms in enumerate(problem.each_block(squared_norms)):
        norms = norms.double()
        group = problem.group_of[block]
        pairs[group] += norms[:y_count] @ norms[y_count:].T
        own[group] += norms.square().sum(1)
    diagonals, own_diagonals = pairs.cpu().numpy(), own.cpu().numpy()
    for total in (result.within, result.against):
        total[:, 0] -= diagonals
    for total in (result.own_within, result.own_against):
        total[:, 0] -= own_diagonals
    result.removed += own_diagonals.sum(0)
