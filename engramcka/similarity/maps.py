"""`similarity_map`: every layer of one model against every layer of another, by any measure.

CKA is `cka_map`'s. The other measures share one way here: samples are prepared, left out, grouped
and shuffled as for CKA, and each measure is one class (`Estimator`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from engramcka.errors import ComparisonError
from engramcka.measures import MEASURES, NEIGHBOURS, VARIANCE, MeasureName, takes
from engramcka.plain_text import did_you_mean
from engramcka.results import SimilarityMap, jackknife_interval
from engramcka.similarity import documents as grouping
from engramcka.similarity.cka import cka_map
from engramcka.similarity.compared import GROUPS, Compared, Estimator, Found, Options
from engramcka.similarity.diagnostics import dimension_warnings, map_warnings
from engramcka.similarity.documents import MIN_BATCH, Ints
from engramcka.similarity.exact import make_problem, row_pass
from engramcka.similarity.inputs import (
    Massive,
    Nonfinite,
    Normalize,
    Pairs,
    Standardize,
    check_choices,
    check_least,
    documents_left,
    known_of,
    open_inputs,
)
from engramcka.similarity.massive import find_outliers
from engramcka.similarity.neighbours import Cknna, MutualNeighbours, chance
from engramcka.similarity.parallel import Share, full_precision
from engramcka.similarity.permutation import Shuffles
from engramcka.similarity.prepare import Pair, prepare
from engramcka.similarity.rank_distances import RankedDistances
from engramcka.similarity.subspaces import MeanCorrelation, Procrustes, WeightedCorrelation

_ESTIMATORS: Mapping[str, type[Estimator]] = MappingProxyType(
    {
        "rsa": RankedDistances,
        "procrustes": Procrustes,
        "mutual-knn": MutualNeighbours,
        "cknna": Cknna,
        "svcca": MeanCorrelation,
        "pwcca": WeightedCorrelation,
    }
)
_OF_SOME = ("estimator", "batch_size", "batches", "precision", "kernel", "pairs", "k", "variance")
_ALONE = Share()


def similarity_map(
    y: Sequence[Any], x: Sequence[Any], *, measure: MeasureName = "cka", **options: Any
) -> SimilarityMap:
    """Similarity of every layer of y (rows) with every layer of x (columns), with 95 % intervals.

    What each measure is, its papers, range, invariances and what few samples do to it stand in
    `engramcka.measures.MEASURES`, and with examples in docs/measures.md. Of all of them an
    interval leaves out documents, and the null shuffles them.

    Args:
        y: one (samples, width) array a layer, as `cka_map` takes.
        x: the same for the other model, over the same samples in the same order.
        measure: "cka" and "cka-rbf" are `cka_map` with that kernel, and take all its options;
            "rsa", "procrustes", "mutual-knn", "cknna", "svcca" and "pwcca" take those of
            `other_map`.
        options: of `cka_map` or of `other_map`.

    Returns:
        A `SimilarityMap` in float64; a `CkaMap` for the first two measures.

    Raises:
        ComparisonError: no such measure, an option that the measure does not take, or what the
            functions named raise.
    """
    if measure not in MEASURES:
        hint = did_you_mean(str(measure), list(MEASURES), cutoff=0.5)
        raise ComparisonError(f"measure is {measure!r}; {hint}it must be one of {_names(MEASURES)}")
    known = MEASURES[measure]
    for name in _OF_SOME:
        if name in options and not takes(measure, name):
            of = [one for one in MEASURES if takes(one, name)]
            raise ComparisonError(f"{name} with measure {measure!r}; it belongs to {_names(of)}")
    if known.is_cka:
        kernel = "rbf" if measure == "cka-rbf" else "linear"
        if options.setdefault("kernel", kernel) != kernel:
            raise ComparisonError(
                f"kernel is {options['kernel']!r} with measure {measure!r}, which has the {kernel} "
                "kernel"
            )
        return cka_map(y, x, **options)
    return other_map(y, x, measure, **options)


@torch.inference_mode()
def other_map(
    y: Sequence[Any],
    x: Sequence[Any],
    measure: str,
    *,
    k: int = NEIGHBOURS,
    variance: float | None = None,
    groups: Sequence[Any] | None = None,
    pairs: Pairs = "across-documents",
    normalize: Normalize = "none",
    standardize: Standardize = "none",
    nonfinite: Nonfinite = "error",
    massive: Massive = "keep",
    permutations: int = 0,
    seed: int = 0,
    device: str | torch.device = "auto",
    y_label: str = "y",
    x_label: str = "x",
    y_layers: Sequence[int] = (),
    x_layers: Sequence[int] = (),
    y_samples: Sequence[Any] | None = None,
    x_samples: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    share: Share = _ALONE,
) -> SimilarityMap:
    """The map of a measure that is not CKA; `similarity_map` is the way to it.

    Args:
        y: one (samples, width) array a layer, as `cka_map` takes.
        x: the same for the other model.
        measure: "rsa", "procrustes", "mutual-knn", "cknna", "svcca" or "pwcca".
        k: nearest neighbours of a sample that count; of "mutual-knn" and "cknna".
        variance: share of a layer's variance, above 0 to 1, that the components compared are to
            hold, of which there are at most a tenth of the samples; 0.99 if left out for "svcca"
            and 1 for "pwcca".
        groups: the document of each sample, a label each.
        pairs: "across-documents" leaves out pairs of samples of one document; "all" counts them.
            Of "rsa", "mutual-knn" and "cknna", which are made of pairs.
        normalize: as `cka_map`.
        standardize: as `cka_map`.
        nonfinite: as `cka_map`.
        massive: as `cka_map`.
        permutations: shuffles of x's samples, one a document, for the null distribution; each costs
            about as much as the map for "procrustes", "svcca" and "pwcca".
        seed: of the shuffles.
        device: as `cka_map`.
        y_label: name of the model on the rows.
        x_label: name of the model on the columns.
        y_layers: block numbers of the rows; left out, they count from 1.
        x_layers: block numbers of the columns.
        y_samples: identities of y's samples, to be compared with x's, one each.
        x_samples: identities of x's samples.
        names: what warnings call each sample, such as its token.
        on_progress: called with (steps done, steps in all) as work goes on.
        share: of the work, where several processes make the map together.

    Raises:
        ComparisonError: as `cka_map`; k neighbours are not there; fewer than 20 samples for the
            canonical correlations; a sample without a direction where cosines or correlations
            are compared.
    """
    known = MEASURES[measure]
    variance = VARIANCE.get(measure) if variance is None else variance
    _check_options(
        {
            "pairs": (pairs, Pairs),
            "normalize": (normalize, Normalize),
            "standardize": (standardize, Standardize),
            "nonfinite": (nonfinite, Nonfinite),
            "massive": (massive, Massive),
        },
        k, variance, permutations,
    )  # fmt: skip
    asked = open_inputs(
        y, x, layers=(y_layers, x_layers), samples=(y_samples, x_samples), groups=groups,
        names=names, device=device, ranks=share.ranks,
    )  # fmt: skip
    like = asked.like
    options = Options(k, 0.0 if variance is None else variance)
    with full_precision():
        pair = prepare(
            asked.y, asked.x, like, seed,
            nonfinite=nonfinite, normalize=normalize, massive=massive, standardize=standardize,
        )  # fmt: skip
        n_documents, several = documents_left(asked.documents, pair.y)
        steps = _Steps(on_progress, 2 * len(pair.y) + len(pair.x))
        compared = _compared(pair, several, pairs, like, share, steps.advance, known.pairs)
        estimator = _ESTIMATORS[measure](compared, options)
        found = estimator.estimate()
        null, null_similarity, no_null = None, None, ""
        if permutations:
            null, null_similarity, no_null = _null(
                compared, estimator, found, measure, options, permutations, seed
            )
        problem = make_problem(pair.y, pair.x, like, hollow=True, max_groups=1)
        _, moments = row_pass(problem)
        layers = len(pair.y) + len(pair.x)
        outliers = find_outliers(problem, np.full(layers, np.nan))
    facts = known_of(pair, moments, None, outliers)
    without = found.values[1:] if len(found.values) > 2 else None
    interval = None if without is None else jackknife_interval(found.values[0], without)
    split = _split_components(estimator, len(pair.y))
    result = SimilarityMap(
        similarity=found.values[0],
        measure=measure,
        neighbours=k if known.neighbours else None,
        chance=chance(compared, k) if measure == "mutual-knn" else None,
        variance=variance if known.components else None,
        y_components=split[0],
        x_components=split[1],
        y_label=y_label,
        x_label=x_label,
        y_layers=tuple(y_layers),
        x_layers=tuple(x_layers),
        ci_low=None if interval is None else interval[0],
        ci_high=None if interval is None else interval[1],
        jackknife=without,
        null=null,
        null_similarity=null_similarity,
        standardize=standardize,
        pairs="across-documents" if n_documents and compared.across else "all",
        pairs_within=0.0 if several is None else grouping.share_within(several),
        n_documents=n_documents,
        seed=seed,
        interval_over="" if without is None else ("documents" if n_documents else "samples"),
        normalize=normalize,
        **facts,
    )
    changes = {"massive": massive, "normalize": normalize, "standardize": standardize}
    diagnostics = facts["y_diagnostics"], facts["x_diagnostics"]
    messages = [
        *found.warnings,
        *dimension_warnings((pair.y, pair.x), diagnostics, changes),
        *([no_null] if no_null else []),
    ]
    return replace(result, warnings=(*messages, *map_warnings(result, changes, names)))


class _Steps:
    """Steps that are done, told to whoever asked."""

    def __init__(self, on_progress: Callable[[int, int], None] | None, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def advance(self, steps: int) -> None:
        """So many more are done."""
        self._done = min(self._total, self._done + steps)
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)


def _compared(
    pair: Pair,
    documents: Ints | None,
    pairs: str,
    like: torch.Tensor,
    share: Share,
    advance: Callable[[int], None],
    made_of_pairs: bool,
) -> Compared:
    """Both models with the samples of a document together, and what is left out in turn."""
    n = pair.y.n_samples
    numbers = np.arange(n) if documents is None else documents
    order = np.argsort(numbers, kind="stable")
    y, x = pair.y, pair.x
    if not np.array_equal(order, np.arange(n)):
        y, x, numbers = y.keep(order), x.keep(order), numbers[order]
    groups = grouping.jackknife_groups(numbers, GROUPS)
    across = made_of_pairs and documents is not None and pairs == "across-documents"
    return Compared(y, x, numbers, groups, across, like, share, advance)


def _null(
    compared: Compared,
    estimator: Estimator,
    found: Found,
    measure: str,
    options: Options,
    permutations: int,
    seed: int,
) -> tuple[Any, Any, str]:
    """Shuffled and unshuffled values of one sample a document; or why there are none."""
    single = compared.whole()
    whole = found.values[0]
    if compared.documents[-1] + 1 < compared.n:
        rows = grouping.one_a_document(compared.documents, seed)
        if len(rows) < MIN_BATCH:
            return None, None, "no p values: fewer than 4 documents to shuffle"
        single = replace(
            single,
            y=compared.y.keep(rows),
            x=compared.x.keep(rows),
            documents=np.arange(len(rows)),
            groups=np.zeros(len(rows), dtype=np.int64),
            across=False,
            advance=lambda steps: None,
        )
        try:
            estimator = _ESTIMATORS[measure](single, options)
        except ComparisonError as error:
            return None, None, f"no p values from one sample a document: {error}"
        whole = estimator.estimate().values[0]
    shuffles = Shuffles(permutations, seed)
    (orders,) = shuffles.within([(0, single.n)], torch.device("cpu"))
    return estimator.shuffled(list(orders.numpy())), whole, ""


def _split_components(estimator: Estimator, y_count: int) -> tuple[Any, Any]:
    counts = getattr(estimator, "components", None)
    return (None, None) if counts is None else (counts[:y_count], counts[y_count:])


def _names(names: Any) -> str:
    return ", ".join(names)


def _check_options(
    options: Mapping[str, tuple[str, Any]], k: int, variance: float | None, permutations: int
) -> None:
    check_choices(options)
    check_least(k=(k, 1), permutations=(permutations, 0))
    if variance is not None and not 0 < variance <= 1:
        raise ComparisonError(f"variance is {variance}; it must be above 0 and at most 1")
