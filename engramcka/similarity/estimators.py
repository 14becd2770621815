"""From prepared layers to HSIC of all samples and of all but each group, by one estimator.

Chooses the route and the precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch

from engramcka.results import Float
from engramcka.similarity import documents as grouping
from engramcka.similarity import hsic, routes
from engramcka.similarity.across_documents import estimate_across, make_problem_across, sets_of_four
from engramcka.similarity.documents import MIN_BATCH, Ints
from engramcka.similarity.exact import BLOCK, Progress, estimate, make_problem, row_pass
from engramcka.similarity.gram_tiles import Moments
from engramcka.similarity.massive import Outliers, find_outliers
from engramcka.similarity.minibatch import (
    Batch,
    Minibatch,
    all_constant,
    batch_portions,
    smallest_left,
)
from engramcka.similarity.parallel import Share, split_consecutive
from engramcka.similarity.permutation import Shuffles, full_null, minibatch_null
from engramcka.similarity.prepare import Prepared, median_distances

_FULL_GROUPS = 32  # of documents that are left out in turn, over all samples; twice for many
_MANY = 8192  # samples


@dataclass(frozen=True)
class Estimate:
    """HSIC values up to one factor, which no ratio depends on."""

    whole: hsic.Hsic  # over all samples
    without: hsic.Hsic | None  # (groups, ...) without each group; None for fewer than two groups
    squared: tuple[Float, Float] | None  # HSIC of y's and x's layers with themselves; linear only
    moments: Moments
    outliers: Outliers
    route: str  # gram | feature
    batches: int  # that the samples were in; 1 for the estimators over all at once
    over: str  # what is left out together for the interval: documents | samples | batches


@dataclass(frozen=True)
class Null:
    """HSIC of shuffled pairs, and of the same samples unshuffled."""

    shuffled: Float  # (shuffles, y layers, x layers)
    whole: hsic.Hsic


@dataclass(frozen=True)
class Settings:
    """How HSIC is estimated: estimator, batches, kernel, intervals and null."""

    batch_size: int
    random: bool  # batches are drawn at random; else samples stay in order
    documents: Ints | None  # (samples,) number of each sample's document; None: one of its own
    shuffled: Ints | None  # the same for the shuffles, which never take documents apart
    across: bool  # only pairs of samples of different documents count
    rbf: bool
    split: bool  # float32 products of the linear kernel are made in three bfloat16 parts
    hollow: bool  # unbiased, for the estimators over all samples
    shuffles: Shuffles
    seed: int
    like: torch.Tensor  # of the dtype and on the device to compute with
    on_progress: Progress | None
    share: Share

    def draw(self, n: int) -> grouping.Draw:
        """The batches of a minibatch map over n samples."""
        return grouping.draw(
            n, self.batch_size, self.seed, self.documents, random=self.random, across=self.across
        )


class MinibatchEstimator:
    """Sums of HSIC_1 over batches."""

    def __init__(self, y: Prepared, x: Prepared, settings: Settings) -> None:
        self._y, self._x, self._settings = y, x, settings
        self._estimated: Batch | None = None  # by `estimate`

    @cached_property
    def _bandwidths(self) -> torch.Tensor | None:
        like, seed = self._settings.like, self._settings.seed
        if not self._settings.rbf:
            return None
        return torch.cat([median_distances(side, like, seed) for side in (self._y, self._x)])

    def estimate(self) -> Estimate:
        """Over all samples, and without each group of them."""
        drawn = self._settings.draw(self._y.n_samples)
        portions = self._portions(drawn, self._settings.on_progress)
        total = _total(portions)
        self._estimated = total
        values, count = total.values, len(drawn.batches)
        whole, without = values[0], None
        if drawn.groups is None:
            if len(portions) > 1:
                without = hsic.Hsic.stack([whole - portion.values[0] for portion in portions])
        elif smallest_left(drawn.batches, drawn.groups) >= MIN_BATCH and len(values.cross) > 2:
            without = values[1:]
        squared = None if self._settings.rbf else whole.sides(whole.own / count)
        return Estimate(
            whole, without, squared, total.moments, total.outliers, "gram", count, drawn.over
        )

    def null(self) -> Null | None:
        """Of one sample a document, so that samples are exchangeable; None for too few.

        After `estimate`, whose samples these are where each has a document of its own.
        """
        settings, made = self._settings, self._estimated
        assert made is not None
        if settings.shuffled is None:
            drawn = settings.draw(self._y.n_samples)
        else:
            rows = grouping.one_a_document(settings.shuffled, settings.seed)
            if len(rows) < MIN_BATCH:
                return None
            batches = grouping.random_batches(len(rows), settings.batch_size, settings.seed)
            drawn = grouping.Draw([rows[batch] for batch in batches], None, "documents")
        place = settings.like.double() if made.redone else settings.like
        shuffled = minibatch_null(
            self._y, self._x, drawn.batches, self._bandwidths, settings.shuffles, place,
            settings.share,
        )  # fmt: skip
        if settings.shuffled is not None:
            made = _total(self._portions(drawn, None))
        return Null(shuffled, made.values[0])

    def _portions(self, drawn: grouping.Draw, on_progress: Progress | None) -> list[Batch]:
        """Sums over runs of neighbouring batches."""
        settings = self._settings
        portions = batch_portions(len(drawn.batches), grouping.MAX_GROUPS)
        problem = Minibatch(
            self._y, self._x, drawn.batches, drawn.groups, self._bandwidths, settings.like,
            settings.split and not settings.rbf,
        )  # fmt: skip

        def work(mine: list[int]) -> Iterator[Batch]:
            chosen = [batch for portion in mine for batch in portions[portion]]
            parts = _report_each(
                problem.run(chosen, settings.share.ranks), len(chosen), on_progress
            )
            for portion in mine:
                yield _total(islice(parts, len(portions[portion])))
            next(parts, None)  # at its end it gives its threads back

        costs = [float(sum(len(drawn.batches[n]) for n in portion)) for portion in portions]
        return settings.share.ordered_gather(costs, split_consecutive, work)


class FullEstimator:
    """HSIC over all samples; once more in float64 where float32 sums would cancel."""

    def __init__(self, y: Prepared, x: Prepared, settings: Settings) -> None:
        documents = settings.documents
        self._order: Ints | None = None  # which samples are first, second ..; None: as they are
        if documents is not None:
            # Those of a document together, and numbered in that order.
            order = np.argsort(documents, kind="stable")
            if not np.array_equal(order, np.arange(len(order))):
                y, x, self._order = y.keep(order), x.keep(order), order
            settings = replace(settings, documents=documents[order])
        self._y, self._x, self._settings = y, x, settings
        self._like = settings.like
        self._estimated: hsic.Hsic | None = None  # by `estimate`

    def estimate(self) -> Estimate:
        """Over all samples, and without each group of them."""
        result = self._estimate_well()
        self._estimated = result.whole
        return result

    def _estimate_well(self) -> Estimate:
        y, x, settings = self._y, self._x, self._settings
        result = self._estimate(settings.like)
        imprecise = hsic.imprecise(result.whole)
        if settings.like.dtype == torch.float64 or not imprecise.any():
            return result
        if not all_constant(y, x, np.arange(y.n_samples), imprecise):
            self._like = settings.like.double()
            return self._estimate(self._like)
        without = None if result.without is None else hsic.zeroed(result.without, imprecise)
        return replace(result, whole=hsic.zeroed(result.whole, imprecise), without=without)

    def null(self) -> Null | None:
        """Of one sample a document, so that samples are exchangeable; None for too few.

        After `estimate`, whose samples these are where each has a document of its own.
        """
        y, x, settings = self._y, self._x, self._settings
        like, whole = self._like, self._estimated
        assert whole is not None
        if settings.documents is not None:
            rows = grouping.one_a_document(settings.documents, settings.seed)
            if len(rows) < MIN_BATCH:
                return None
            y, x = y.keep(rows), x.keep(rows)
        problem = make_problem(
            y, x, like, hollow=settings.hollow, max_groups=1, min_blocks=1, split=settings.split,
            shuffles=True,
        )  # fmt: skip
        shuffled = full_null(problem, settings.shuffles, settings.share)
        if settings.documents is not None:
            single = replace(settings, documents=None, on_progress=None)
            whole = FullEstimator(y, x, single)._estimate(like).whole
        return Null(shuffled, whole)

    def _estimate(self, like: torch.Tensor) -> Estimate:
        settings = self._settings
        share, on_progress = settings.share, settings.on_progress
        groups = None
        if settings.documents is not None:
            most = _FULL_GROUPS * (2 if self._y.n_samples > _MANY else 1)
            groups = grouping.jackknife_groups(settings.documents, most)
            if settings.across:
                across = make_problem_across(
                    self._y, self._x, settings.documents, groups, like, settings.split
                )
                products = routes.gram_products(across, share, on_progress)
                values, moments = estimate_across(across, products)
                enough = len(values.cross) > 2 and bool((sets_of_four(across) > 0).all())
                outliers = find_outliers(across, products.own_against[:, 0].sum(axis=0))
                return self._result(values, moments, outliers, enough, "gram")
        problem = make_problem(
            self._y, self._x, like,
            hollow=settings.hollow, max_groups=grouping.MAX_GROUPS, groups=groups,
            split=settings.split,
        )  # fmt: skip
        # Few samples cost little either way, and sums over tiles cancel less than those over
        # features.
        few = problem.n <= BLOCK
        gram = few or routes.gram_operations(problem) <= routes.feature_operations(problem)
        route = routes.gram_products if gram else routes.feature_products
        products = route(problem, share, on_progress)
        rows, moments = row_pass(problem)
        values = estimate(problem, products, rows)
        enough = bool(rows.n.min() >= MIN_BATCH) and problem.groups > 1
        outliers = find_outliers(problem, products.own_against[:, 0].sum(axis=0))
        return self._result(values, moments, outliers, enough, "gram" if gram else "feature")

    def _result(
        self, values: hsic.Hsic, moments: Moments, outliers: Outliers, enough: bool, route: str
    ) -> Estimate:
        whole, over = values[0], "samples" if self._settings.documents is None else "documents"
        without = values[1:] if enough else None
        if self._order is not None:
            outliers = replace(outliers, samples=np.sort(self._order[outliers.samples]))
        return Estimate(whole, without, whole.sides(whole.own), moments, outliers, route, 1, over)


def _report_each(
    parts: Iterable[Batch], count: int, on_progress: Progress | None
) -> Iterator[Batch]:
    """The same batches; calls on_progress after each."""
    for done, part in enumerate(parts, start=1):
        if on_progress is not None:
            on_progress(done, count)
        yield part


def _total(parts: Iterable[Batch]) -> Batch:
    iterator = iter(parts)
    result = next(iterator)
    with np.errstate(invalid="ignore"):  # what too few samples are left for is nan, and not used
        for part in iterator:
            result = result + part
    return result
