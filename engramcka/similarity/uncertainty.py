"""From HSIC values to a map: CKA, its jackknife and intervals, and which layers have none.

Float64 NumPy; knows nothing of samples or kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engramcka.results import Float, jackknife_interval
from engramcka.similarity.hsic import Bool, Hsic

# A float64 sum that cancels to one part in 10^7 of its terms is good to some 1e-8; past that we
# call the answer ill conditioned.
MAX_CONDITION = 1e7


@dataclass(frozen=True)
class Ratios:
    """CKA of every pair of layers, float64; NaN where there is nothing to divide by."""

    similarity: Float  # (y layers, x layers)
    jackknife: Float | None  # (groups, y layers, x layers), without each group
    ci_low: Float | None  # (y layers, x layers), 95 % interval
    ci_high: Float | None


def ratios(whole: Hsic, without: Hsic | None) -> Ratios:
    """CKA, cross / sqrt(own own), of all samples and without each group.

    Args:
        whole: over all samples.
        without: (groups, ...) without each group.
    """
    similarity = ratio(whole.cross, whole)
    jackknife = low = high = None
    if without is not None:
        jackknife = ratio(without.cross, without)
        low, high = jackknife_interval(similarity, jackknife)
    return Ratios(similarity, jackknife, low, high)


def undefined(whole: Hsic) -> list[tuple[Bool, Bool]]:
    """For y and for x: (layers,) which do not vary at all, and which are ill conditioned."""
    constant = whole.terms == 0
    with np.errstate(invalid="ignore"):
        ill = ~constant & ~(whole.own * MAX_CONDITION > whole.terms)
    return list(zip(whole.sides(constant), whole.sides(ill), strict=True))


def ratio(cross: Float, own: Hsic) -> Float:
    """cross / sqrt(own own) of (.., y layers, x layers); NaN where a layer has no own HSIC."""
    with np.errstate(invalid="ignore"):
        norms = np.sqrt(np.where(own.own * MAX_CONDITION > own.terms, own.own, np.nan))
    y, x = own.sides(norms)
    quotient: Float = cross / y[..., :, None] / x[..., None, :]
    return quotient
