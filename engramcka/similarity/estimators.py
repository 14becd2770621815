"""From prepared layers to HSIC of all samples and of all but each group, by one estimator.

Chooses the route and the precision. Knows nothing of intervals or of what a person is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import torch

from engramcka.results import Float
from engramcka.similarity import feature_route, gram_route, hsic
from engramcka.similarity.diagnostics import Moments
from engramcka.similarity.full import BLOCK, Progress, estimate, pose
from engramcka.similarity.inputs import Layers
from engramcka.similarity.kernels import median_distances
from engramcka.similarity.minibatch import (
    MIN_BATCH,
    Batch,
    Minibatch,
    all_constant,
    batch_groups,
    batch_ranges,
)
from engramcka.similarity.permutation import Shuffles, full_null, minibatch_null
from engramcka.similarity.rows import row_pass
from engramcka.similarity.shares import Share, consecutive

MAX_GROUPS = 64  # of the jackknife, so that it stays small enough to be stored with a map


@dataclass(frozen=True)
class Estimate:
    """HSIC values up to one factor, which no ratio depends on."""

    whole: hsic.Hsic  # over all samples
    without: hsic.Hsic | None  # (groups, ...) without each group; None for fewer than two groups
    null: Float | None  # (shuffles, y layers, x layers) of shuffled pairs
    squared: tuple[Float, Float] | None  # HSIC of y's and x's layers with themselves; linear only
    moments: Moments
    route: str  # gram | feature


@dataclass(frozen=True)
class Settings:
    """How to estimate."""

    batch_size: int
    rbf: bool
    hollow: bool  # unbiased, for the estimators over all samples
    shuffles: Shuffles
    like: torch.Tensor  # of the dtype and on the device to compute with
    on_progress: Progress | None
    share: Share


def minibatch(y: Layers, x: Layers, settings: Settings) -> Estimate:
    """Sums of HSIC_1 over batches."""
    like, bandwidths = settings.like, None
    if settings.rbf:
        bandwidths = torch.cat([median_distances(side, like) for side in (y, x)])
    ranges = batch_ranges(y.n_samples, settings.batch_size)
    for side in (y, x):
        side.cut(ranges, like)
    batches = batch_groups(len(ranges), MAX_GROUPS)
    problem = Minibatch(y, x, ranges, bandwidths, like)

    def work(mine: list[int]) -> Iterator[Batch]:
        chosen = [batch for group in mine for batch in batches[group]]
        parts = _told(problem.run(chosen), len(chosen), settings.on_progress)
        for group in mine:
            yield _total(islice(parts, len(batches[group])))
        next(parts, None)  # at its end it gives its threads back

    costs = [ranges[group[-1]][1] - ranges[group[0]][0] for group in batches]
    found = settings.share.exchange(costs, consecutive, work)
    all_batches, groups = _total(found), [part.values for part in found]
    whole = all_batches.values
    without = hsic.Hsic.stack([whole - group for group in groups]) if len(groups) > 1 else None
    null = None
    if settings.shuffles.count:
        place = like.double() if all_batches.redone else like
        null = minibatch_null(y, x, ranges, bandwidths, settings.shuffles, place, settings.share)
    squared = whole.sides(whole.own / len(ranges))
    moments = all_batches.moments
    return Estimate(whole, without, null, None if settings.rbf else squared, moments, "gram")


def full(y: Layers, x: Layers, settings: Settings) -> Estimate:
    """HSIC over all samples; once more in float64 where float32 sums would cancel."""
    result = _full(y, x, settings)
    doubtful = hsic.doubtful(result.whole)
    if settings.like.dtype == torch.float64 or not doubtful.any():
        return result
    if not all_constant(y, x, 0, y.n_samples, doubtful):
        return _full(y, x, replace(settings, like=settings.like.double()))
    without = None if result.without is None else hsic.zeroed(result.without, doubtful)
    return replace(result, whole=hsic.zeroed(result.whole, doubtful), without=without)


def _full(y: Layers, x: Layers, settings: Settings) -> Estimate:
    problem = pose(y, x, settings.like, hollow=settings.hollow, max_groups=MAX_GROUPS)
    # Few samples cost little either way, and sums over tiles cancel less than those over features.
    few = problem.n <= BLOCK
    gram = few or gram_route.operations(problem) <= feature_route.operations(problem)
    route_products = (gram_route if gram else feature_route).products
    products = route_products(problem, settings.share, settings.on_progress)
    rows, found = row_pass(problem)
    values = estimate(problem, products, rows)
    whole = values[0]
    null = None
    if settings.shuffles.count:
        blocks = pose(y, x, settings.like, hollow=settings.hollow, max_groups=1, min_blocks=1)
        null = full_null(blocks, settings.shuffles, settings.share)
    without = values[1:] if rows.n.min() >= MIN_BATCH else None
    route = "gram" if gram else "feature"
    return Estimate(whole, without, null, whole.sides(whole.own), found, route)


def _told(parts: Iterable[Batch], count: int, on_progress: Progress | None) -> Iterator[Batch]:
    """The same; on_progress hears of each."""
    for done, part in enumerate(parts, start=1):
        if on_progress is not None:
            on_progress(done, count)
        yield part


def _total(parts: Iterable[Batch]) -> Batch:
    iterator = iter(parts)
    result = next(iterator)
    for part in iterator:
        result = result + part
    return result
