"""What a reader of a map must know before trusting it, one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engramcka.results import LayerDiagnostics
from engramcka.similarity.estimators import Estimate
from engramcka.similarity.inputs import Layers
from engramcka.similarity.uncertainty import MAX_CONDITION, undefined

DOMINANT = 0.5  # share of the variance from which one dimension is worth a warning
_BIAS = 0.05  # effective rank over samples from which the biased estimator's bias is


def map_warnings(
    sides: Sequence[Layers],
    diagnostics: Sequence[LayerDiagnostics],
    estimate: Estimate,
    estimator: str,
    dropped: int,
) -> tuple[str, ...]:
    """Warnings of one map.

    Args:
        sides: y and x.
        diagnostics: of y's layers and of x's.
        estimate: what the map was made from.
        estimator: its name.
        dropped: samples left out for values that are not finite.
    """
    said = []
    for side, found, line, (constant, ill) in zip(
        sides, diagnostics, ("row", "column"), undefined(estimate.whole), strict=True
    ):
        if constant.any():
            said.append(f"{_named(side, constant)} constant over the samples: {line} NaN")
        if ill.any():
            said.append(
                f"{_named(side, ill)} ill conditioned (the sums cancel past 1 in "
                f"{MAX_CONDITION:.0e}, even in float64): {line} NaN"
            )
        with np.errstate(invalid="ignore"):
            dominated = found.top_dimension_share >= DOMINANT
        if dominated.any():
            said.append(
                f"{_named(side, dominated)} dominated by one dimension, which holds over half of "
                'the variance: similarity is mostly about it; compare standardize = "drop-massive"'
            )
        if estimator == "biased":
            said += _bias(side, found)
    if dropped:
        said.append(f"{dropped} samples dropped from both models: a value was NaN or infinite")
    if estimate.without is None:
        said.append("no intervals: too few samples or batches to leave some out")
    return tuple(said)


def _bias(side: Layers, found: LayerDiagnostics) -> list[str]:
    with np.errstate(invalid="ignore"):
        too_few = found.effective_rank > _BIAS * side.n_samples
    if not too_few.any():
        return []
    return [
        f"{_named(side, too_few)} of effective rank up to {found.effective_rank[too_few].max():.0f}"
        f" with {side.n_samples} samples: biased similarities are too high; "
        'use estimator = "debiased"'
    ]


def _named(side: Layers, which: npt.NDArray[np.bool_]) -> str:
    """ "y layer 3 is", or "y layers 1, 2, 5 are"."""
    numbers = [str(side.numbers[index]) for index in np.flatnonzero(which)]
    plural = len(numbers) > 1
    return f"{side.side} layer{'s' * plural} {', '.join(numbers)} {'are' if plural else 'is'}"
