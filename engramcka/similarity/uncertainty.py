"""How sure a CKA map is: delete-a-group jackknife, in float64 NumPy.

Works on sums already made (a sum a group); knows nothing of samples or kernels.
"""

from __future__ import annotations

import numpy as np

from engramcka.results import Float, jackknife_interval

MAX_GROUPS = 64  # so that a map's jackknife stays small enough to be stored and drawn


def group_starts(count: int) -> list[int]:
    """First unit of each group when ``count`` units in order make at most `MAX_GROUPS` groups."""
    groups = min(count, MAX_GROUPS)
    return [group * count // groups for group in range(groups)]


def ratio(cross: Float, y_self: Float, x_self: Float) -> Float:
    """CKA from HSIC values: cross / sqrt(y_self x_self).

    Args:
        cross: (..., y layers, x layers).
        y_self: (..., y layers).
        x_self: (..., x layers).

    Returns:
        As cross; NaN where a self term is not above zero.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        y_norm = np.sqrt(np.where(y_self > 0, y_self, np.nan))
        x_norm = np.sqrt(np.where(x_self > 0, x_self, np.nan))
        quotient: Float = cross / y_norm[..., :, None] / x_norm[..., None, :]
    return quotient


def interval(estimate: Float, jackknife: Float | None) -> tuple[Float | None, Float | None]:
    """Ends of the 95 % interval of every cell; (None, None) without a jackknife."""
    if jackknife is None:
        return None, None
    return jackknife_interval(estimate, jackknife)
