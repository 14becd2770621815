"""`cka_map`: similarity of every layer of one model with every layer of another.

Arrays in, a `CkaMap` out; no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap
from engramcka.similarity import estimators
from engramcka.similarity.across_documents import all_pairs
from engramcka.similarity.diagnostics import layer_warnings, map_warnings
from engramcka.similarity.documents import MIN_BATCH, share_within
from engramcka.similarity.hsic import ratio, ratios
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
from engramcka.similarity.parallel import Share, full_precision
from engramcka.similarity.permutation import Shuffles
from engramcka.similarity.prepare import prepare
from engramcka.similarity.split_products import on_tensor_cores

Estimator = Literal["minibatch", "debiased", "biased"]
Kernel = Literal["linear", "rbf"]
Precision = Literal["highest", "float32"]
Batches = Literal["random", "in-order"]

_ALL = Share()


@torch.inference_mode()  # less work a call
def cka_map(
    y: Sequence[Any],
    x: Sequence[Any],
    *,
    estimator: Estimator = "minibatch",
    batch_size: int = 1024,
    batches: Batches = "random",
    groups: Sequence[Any] | None = None,
    pairs: Pairs = "across-documents",
    kernel: Kernel = "linear",
    normalize: Normalize = "none",
    standardize: Standardize = "none",
    nonfinite: Nonfinite = "error",
    massive: Massive = "keep",
    permutations: int = 0,
    seed: int = 0,
    precision: Precision = "highest",
    device: str | torch.device = "auto",
    y_label: str = "y",
    x_label: str = "x",
    y_layers: Sequence[int] = (),
    x_layers: Sequence[int] = (),
    y_samples: Sequence[Any] | None = None,
    x_samples: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    share: Share = _ALL,
) -> CkaMap:
    """CKA of every layer of y (rows) with every layer of x (columns), with 95 % intervals.

    CKA(K, L) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019, equation 1; Engram
    paper, equation 8).

    Args:
        y: one (samples, width) array a layer: torch tensors, NumPy arrays, or arrays whose slices
            are NumPy arrays (Zarr), which are read a block at a time; float64, float32, float16
            or bfloat16. Widths may differ.
        x: the same for the other model, over the same samples in the same order.
        estimator: "minibatch" sums the unbiased HSIC_1 over batches (Nguyen et al. 2021);
            "debiased" is HSIC_1 over all samples at once; "biased" HSIC_0 over all samples.
        batch_size: samples a batch at most, at least 4; for the minibatch estimator only.
        batches: "random", drawn from the seed, or "in-order", neighbours as other packages take
            them: a last batch of fewer than 4 joins the one before, and documents play no part.
            For the minibatch estimator only.
        groups: the document of each sample, a label each; intervals leave out documents, not
            samples. Left out, every sample is a document of its own.
        pairs: "across-documents" leaves out pairs of samples of one document, which are alike
            because the text is: batches hold one sample a document at most, and the estimator
            over all samples leaves such pairs out. "all" counts them; the biased estimator always
            does.
        kernel: "linear", or, for the minibatch estimator, "rbf" with the median distance as its
            bandwidth.
        normalize: "none"; or "rms", each sample divided by its root mean square, which is what the
            next block reads (its norm's weights left out); before any standardisation.
        standardize: "none"; "zscore", every dimension divided by its standard deviation; or
            "drop-massive", dimensions of over 100 times the median variance left out.
        nonfinite: "error", or "drop" samples that are not finite in every layer of both models.
        massive: "keep", or "drop" samples that are over 10 times as far from the centre of some
            layer of either model as its median sample, from both models.
        permutations: shuffles of x's samples, one a document, within blocks of at most 256, for
            the null distribution.
        seed: of the batches and the shuffles.
        precision: of products of float32 features, good to 1e-6 of similarity either way:
            "highest" makes those of the linear kernel in three bfloat16 parts on a device whose
            tensor cores do that faster (see `split_products`), else as "float32" does.
        device: "auto" is where the tensors are, and for other arrays a GPU if there is one.
        y_label: name of the model on the rows.
        x_label: name of the model on the columns.
        y_layers: block numbers of the rows; left out, they count from 1.
        x_layers: block numbers of the columns.
        y_samples: identities of y's samples, to be compared with x's, one each.
        x_samples: identities of x's samples.
        names: what warnings call each sample, such as its token.
        on_progress: called with (steps done, steps in all) as work goes on.
        share: of the work, where several processes make the map together; see
            `engramcka.similarity.parallel`.

    Returns:
        The map in float64. Float32 and narrower inputs are computed in float32 where that is good
        to 1e-6, and in float64 elsewhere; float64 inputs in float64.

    Raises:
        ComparisonError: shapes, dtypes, counts or identities do not fit, fewer than 4 samples or
            documents, a value that is not finite, or an option that is not there.
    """
    _check_options(
        {
            "estimator": (estimator, Estimator),
            "kernel": (kernel, Kernel),
            "standardize": (standardize, Standardize),
            "nonfinite": (nonfinite, Nonfinite),
            "massive": (massive, Massive),
            "normalize": (normalize, Normalize),
            "precision": (precision, Precision),
            "batches": (batches, Batches),
            "pairs": (pairs, Pairs),
        },
        batch_size,
        permutations,
    )
    asked = open_inputs(
        y, x, layers=(y_layers, x_layers), samples=(y_samples, x_samples), groups=groups,
        names=names, device=device, ranks=share.ranks,
    )  # fmt: skip
    like = asked.like
    split = precision == "highest" and on_tensor_cores(like.device)
    with full_precision():
        pair = prepare(
            asked.y, asked.x, like, seed,
            nonfinite=nonfinite, normalize=normalize, massive=massive, standardize=standardize,
        )  # fmt: skip
        sides = pair.y, pair.x
        minibatch = estimator == "minibatch"
        random = batches == "random"
        n_documents, shuffled = documents_left(asked.documents, pair.y)
        documents = None if minibatch and not random else shuffled
        settings = estimators.Settings(
            batch_size=batch_size,
            random=random,
            documents=documents,
            shuffled=shuffled,
            across=pairs == "across-documents" and estimator != "biased",
            seed=seed,
            rbf=kernel == "rbf",
            split=split,
            hollow=estimator != "biased",
            shuffles=Shuffles(permutations, seed),
            like=like,
            on_progress=on_progress,
            share=share,
        )
        chosen = estimators.MinibatchEstimator if minibatch else estimators.FullEstimator
        made = chosen(*sides, settings)
        found = made.estimate()
        null = made.null() if permutations else None
    result = ratios(found.whole, found.without)
    known = known_of(pair, found.moments, found.squared, found.outliers)
    pairs_within, counted = 0.0, None
    if documents is not None and settings.across:
        pairs_within = share_within(documents)
        if kernel == "linear":
            with full_precision():
                whole = found.whole / found.batches
                counted = all_pairs(*sides, documents, whole, seed, like)
    result_map = CkaMap(
        similarity=result.similarity,
        y_label=y_label,
        x_label=x_label,
        y_layers=tuple(y_layers),
        x_layers=tuple(x_layers),
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        jackknife=result.jackknife,
        null=None if null is None else ratio(null.shuffled, null.whole),
        null_similarity=None if null is None else ratio(null.whole.cross, null.whole),
        estimator=estimator,
        kernel=kernel,
        standardize=standardize,
        batch_size=batch_size if minibatch else None,
        batches=batches if minibatch else "",
        n_batches=found.batches,
        pairs="across-documents" if n_documents and settings.across and random else "all",
        pairs_within=pairs_within,
        all_pairs=counted,
        n_documents=n_documents,
        seed=seed,
        interval_over=found.over if found.without is not None else "",
        normalize=normalize,
        route=found.route,
        **known,
    )
    options = {
        "estimator": estimator,
        "massive": massive,
        "normalize": normalize,
        "standardize": standardize,
    }
    diagnostics = known["y_diagnostics"], known["x_diagnostics"]
    messages = layer_warnings(sides, diagnostics, found, options)
    if permutations and null is None:
        messages.append("no p values: fewer than 4 documents to shuffle")
    return replace(result_map, warnings=(*messages, *map_warnings(result_map, options, names)))


def _check_options(
    options: Mapping[str, tuple[str, Any]], batch_size: int, permutations: int
) -> None:
    check_choices(options)
    kernel, estimator = options["kernel"][0], options["estimator"][0]
    if kernel == "rbf" and estimator != "minibatch":
        raise ComparisonError(
            f'kernel "rbf" with estimator {estimator!r}; it needs estimator "minibatch"'
        )
    check_least(batch_size=(batch_size, MIN_BATCH), permutations=(permutations, 0))
