"""`cka_map`: similarity of every layer of one model with every layer of another.

Arrays in, a `CkaMap` out. Knows no files; where and how hidden states were made is not its
business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from engramcka.errors import ComparisonError
from engramcka.results import CkaMap
from engramcka.similarity import uncertainty
from engramcka.similarity.inputs import Layers, check_pair, choose_device
from engramcka.similarity.minibatch import MIN_BATCH, batch_hsic, batch_ranges


def cka_map(
    y: Sequence[Any],
    x: Sequence[Any],
    *,
    estimator: Literal["minibatch", "debiased", "biased"] = "minibatch",
    batch_size: int = 1024,
    kernel: Literal["linear", "rbf"] = "linear",
    device: str | torch.device = "auto",
    y_label: str = "y",
    x_label: str = "x",
    y_layers: Sequence[int] = (),
    x_layers: Sequence[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> CkaMap:
    """CKA of every layer of y (rows) with every layer of x (columns)."""
    y_side, x_side = Layers(y, "y", y_layers), Layers(x, "x", x_layers)
    check_pair(y_side, x_side)
    if batch_size < MIN_BATCH:
        raise ComparisonError(f"batch_size is {batch_size}; it must be at least {MIN_BATCH}")
    if estimator != "minibatch" or kernel != "linear":
        raise ComparisonError(f"estimator {estimator} with kernel {kernel} is not there yet")
    place = choose_device(y_side, x_side, device)
    dtype = torch.float64 if y_side.needs_float64 or x_side.needs_float64 else torch.float32
    total = len(batch_ranges(y_side.n_samples, batch_size))
    values = []
    for done, batch in enumerate(batch_hsic(y_side, x_side, batch_size, place, dtype), start=1):
        values.append((batch.cross, batch.y_self, batch.x_self))
        if on_progress is not None:
            on_progress(done, total)
    starts = uncertainty.group_starts(total)
    groups = [np.add.reduceat(np.stack(part), starts) for part in zip(*values, strict=True)]
    sums = [part.sum(axis=0) for part in groups]
    similarity = uncertainty.ratio(*sums)
    jackknife = None
    if len(starts) > 1:
        jackknife = uncertainty.ratio(
            *(whole - part for whole, part in zip(sums, groups, strict=True))
        )
    low, high = uncertainty.interval(similarity, jackknife)
    return CkaMap(
        similarity=similarity,
        y_label=y_label,
        x_label=x_label,
        y_layers=tuple(y_layers),
        x_layers=tuple(x_layers),
        ci_low=low,
        ci_high=high,
        jackknife=jackknife,
        estimator=estimator,
        kernel=kernel,
        batch_size=batch_size,
        n_samples=y_side.n_samples,
        dtype=" / ".join(dict.fromkeys((y_side.dtype, x_side.dtype))),
        route="gram",
    )
