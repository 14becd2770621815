"""From prepared layers to HSIC of all samples and of all but each group, by one estimator.

Chooses the route and the precision. Knows nothing of intervals or of what a person is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from engramcka.results import Float
from engramcka.similarity import feature_route, gram_route, hsic
from engramcka.similarity.diagnostics import Moments
from engramcka.similarity.full import Progress, estimate, pose
from engramcka.similarity.inputs import Layers
from engramcka.similarity.kernels import median_distances
from engramcka.similarity.minibatch import MIN_BATCH, Minibatch, batch_ranges, constant_layers
from engramcka.similarity.permutation import Shuffles, full_null, minibatch_null
from engramcka.similarity.rows import row_pass

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


def minibatch(y: Layers, x: Layers, settings: Settings) -> Estimate:
    """Sums of HSIC_1 over batches."""
    like, bandwidths = settings.like, None
    if settings.rbf:
        bandwidths = torch.cat([median_distances(side, like) for side in (y, x)])
    ranges = batch_ranges(y.n_samples, settings.batch_size)
    groups: list[hsic.Hsic] = []
    found, per_group, exact = None, len(ranges) / min(MAX_GROUPS, len(ranges)), True
    for done, part in enumerate(Minibatch(y, x, ranges, bandwidths, like).run()):
        if done >= len(groups) * per_group:
            groups.append(part.values)
        else:
            groups[-1] = groups[-1] + part.values
        found = part.moments if found is None else found + part.moments
        exact = exact and not part.redone
        if settings.on_progress is not None:
            settings.on_progress(done + 1, len(ranges))
    assert found is not None
    whole = sum(groups[1:], groups[0])
    without = hsic.Hsic.stack([whole - group for group in groups]) if len(groups) > 1 else None
    null = None
    if settings.shuffles.count:
        place = like if exact else like.double()
        null = minibatch_null(y, x, ranges, bandwidths, settings.shuffles, place)
    squared = (whole.y_self / len(ranges), whole.x_self / len(ranges))
    return Estimate(whole, without, null, None if settings.rbf else squared, found, "gram")


def full(y: Layers, x: Layers, settings: Settings) -> Estimate:
    """HSIC over all samples; once more in float64 where float32 sums would cancel."""
    result = _full(y, x, settings)
    doubtful = hsic.doubtful(result.whole)
    if settings.like.dtype == torch.float64 or not any(part.any() for part in doubtful):
        return result
    constant = constant_layers(y, x, 0, y.n_samples, doubtful)
    if constant is None:
        return _full(y, x, replace(settings, like=settings.like.double()))
    without = None if result.without is None else hsic.zeroed(result.without, *constant)
    return replace(result, whole=hsic.zeroed(result.whole, *constant), without=without)


def _full(y: Layers, x: Layers, settings: Settings) -> Estimate:
    problem = pose(y, x, settings.like, hollow=settings.hollow, max_groups=MAX_GROUPS)
    gram = gram_route.operations(problem) <= feature_route.operations(problem)
    products = (gram_route if gram else feature_route).products(problem, settings.on_progress)
    rows, found = row_pass(problem)
    values = estimate(problem, products, rows)
    whole = values[0]
    null = None
    if settings.shuffles.count:
        blocks = pose(y, x, settings.like, hollow=settings.hollow, max_groups=1, min_blocks=1)
        null = full_null(blocks, settings.shuffles)
    without = values[1:] if rows.n.min() >= MIN_BATCH else None
    route = "gram" if gram else "feature"
    return Estimate(whole, without, null, (whole.y_self, whole.x_self), found, route)
