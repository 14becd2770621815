"""`cka_map`: similarity of every layer of one model with every layer of another.

Arrays in, a `CkaMap` out. Knows no files; where and how hidden states were made is not its
business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap
from engramcka.similarity import estimators
from engramcka.similarity.diagnostics import layer_diagnostics
from engramcka.similarity.inputs import Layers, check_pair, choose_device
from engramcka.similarity.look import first_look
from engramcka.similarity.minibatch import MIN_BATCH
from engramcka.similarity.permutation import Shuffles
from engramcka.similarity.prepare import drop_nonfinite, standardize_features
from engramcka.similarity.shares import Share
from engramcka.similarity.uncertainty import ratios
from engramcka.similarity.warnings import map_warnings
from engramcka.similarity.workers import full_precision

Estimator = Literal["minibatch", "debiased", "biased"]
Kernel = Literal["linear", "rbf"]
Standardize = Literal["none", "zscore", "drop-massive"]
Nonfinite = Literal["error", "drop"]
Precision = Literal["highest", "high"]

_ALL = Share()


@torch.inference_mode()  # less work a call
def cka_map(
    y: Sequence[Any],
    x: Sequence[Any],
    *,
    estimator: Estimator = "minibatch",
    batch_size: int = 1024,
    kernel: Kernel = "linear",
    standardize: Standardize = "none",
    nonfinite: Nonfinite = "error",
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
        batch_size: samples a batch, at least 4, in order; a last batch of fewer than 4 joins the
            one before. For the minibatch estimator only.
        kernel: "linear", or, for the minibatch estimator, "rbf" with the median distance as its
            bandwidth.
        standardize: "none"; "zscore", every dimension divided by its standard deviation; or
            "drop-massive", dimensions of over 100 times the median variance left out.
        nonfinite: "error", or "drop" samples that are not finite in every layer of both models.
        permutations: shuffles of x's samples, within blocks of at most 256, for the null
            distribution.
        seed: of the shuffles.
        precision: "highest" is true float32; "high" lets a GPU use TF32.
        device: "auto" is where the tensors are, and for other arrays a GPU if there is one.
        y_label: name of the model on the rows.
        x_label: name of the model on the columns.
        y_layers: block numbers of the rows; left out, they count from 1.
        x_layers: block numbers of the columns.
        y_samples: identities of y's samples, to be compared with x's, one each.
        x_samples: identities of x's samples.
        on_progress: called with (steps done, steps in all) as work goes on.
        share: of the work, where several processes make the map together; see `shares`.

    Returns:
        The map in float64. Float32 and narrower inputs are computed in float32 where that is good
        to 1e-6, and in float64 elsewhere; float64 inputs in float64.

    Raises:
        ComparisonError: shapes, dtypes, counts or identities do not fit, fewer than 4 samples, a
            value that is not finite, or an option that is not there.
    """
    _check_options(estimator, kernel, standardize, nonfinite, precision, batch_size, permutations)
    sides = Layers(y, "y", y_layers), Layers(x, "x", x_layers)
    check_pair(*sides, y_samples, x_samples)
    dropped = drop_nonfinite(*sides) if nonfinite == "drop" else 0
    dtype = torch.float64 if any(side.needs_float64 for side in sides) else torch.float32
    like = torch.empty(0, dtype=dtype, device=choose_device(*sides, device))
    with full_precision(high=precision == "high"):
        for side in sides:
            if standardize != "none":
                standardize_features(side, standardize, like)
        first_look(sides, like)
        settings = estimators.Settings(
            batch_size=batch_size,
            rbf=kernel == "rbf",
            hollow=estimator != "biased",
            shuffles=Shuffles(permutations, seed),
            like=like,
            on_progress=on_progress,
            share=share,
        )
        estimate = estimators.minibatch if estimator == "minibatch" else estimators.full
        found = estimate(*sides, settings)
    result = ratios(found.whole, found.without, found.null)
    y_found, x_found = layer_diagnostics(found.moments, *sides, found.squared)
    return CkaMap(
        similarity=result.similarity,
        y_label=y_label,
        x_label=x_label,
        y_layers=tuple(y_layers),
        x_layers=tuple(x_layers),
        ci_low=result.ci_low,
        ci_high=result.ci_high,
        jackknife=result.jackknife,
        null=result.null,
        y_diagnostics=y_found,
        x_diagnostics=x_found,
        estimator=estimator,
        kernel=kernel,
        standardize=standardize,
        batch_size=batch_size if estimator == "minibatch" else None,
        n_samples=sides[0].n_samples,
        n_dropped=dropped,
        dtype=" / ".join(dict.fromkeys(side.dtype for side in sides)),
        route=found.route,
        warnings=map_warnings(sides, (y_found, x_found), found, estimator, dropped),
    )


def _check_options(
    estimator: str,
    kernel: str,
    standardize: str,
    nonfinite: str,
    precision: str,
    batch_size: int,
    permutations: int,
) -> None:
    for name, value, allowed in (
        ("estimator", estimator, Estimator),
        ("kernel", kernel, Kernel),
        ("standardize", standardize, Standardize),
        ("nonfinite", nonfinite, Nonfinite),
        ("precision", precision, Precision),
    ):
        if value not in get_args(allowed):
            raise ComparisonError(
                f"{name} is {value!r}; it must be one of {', '.join(get_args(allowed))}"
            )
    if kernel == "rbf" and estimator != "minibatch":
        raise ComparisonError(
            f'kernel "rbf" with estimator {estimator!r}; it needs estimator "minibatch"'
        )
    for name, number, least in (
        ("batch_size", batch_size, MIN_BATCH),
        ("permutations", permutations, 0),
    ):
        if number < least:
            raise ComparisonError(f"{name} is {number}; it must be at least {least}")
