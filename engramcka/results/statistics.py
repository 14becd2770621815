"""Intervals and means that several results share, on NumPy arrays alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError

Float = npt.NDArray[np.float64]


def mean_finite(values: Float) -> Float:
    """Mean over the finite values of the last dimension; NaN where there are none."""
    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(axis=-1)
    count = there.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def jackknife_interval(estimate: npt.ArrayLike, jackknife: npt.ArrayLike) -> tuple[Float, Float]:
    """Ends of a 95 % interval from estimates that each leave one of G groups out.

    The jackknife's standard error, sqrt((G - 1) / G sum (t_g - mean t)^2) (Efron and Stein 1981),
    times the 97.5 % point of Student's t with G - 1 degrees of freedom, either side of the
    estimate.

    Args:
        estimate: (...), over all groups.
        jackknife: (G, ...), without one group each; G at least 2.

    Returns:
        Two arrays as estimate; NaN where an estimate is NaN.
    """
    t = np.asarray(jackknife, dtype=np.float64)
    groups = len(t)
    if groups < 2:
        raise ComparisonError(f"a jackknife needs at least 2 groups, found {groups}")
    error = np.sqrt((groups - 1) / groups * ((t - t.mean(axis=0)) ** 2).sum(axis=0))
    half = student_quantile(groups - 1) * error
    center = np.asarray(estimate, dtype=np.float64)
    return center - half, center + half


def student_quantile(degrees: int) -> float:
    """97.5 % point of Student's t; the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    low, high = 1.9, 13.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        low, high = (low, middle) if _student_within(middle, degrees) > 0.95 else (middle, high)
    return low


def _student_within(t: float, degrees: int) -> float:
    """Probability that a Student t variable lies between -t and t."""
    theta = np.arctan(t / np.sqrt(degrees))
    odd = degrees % 2
    term = np.cos(theta) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for j in range(2 + odd, degrees - 1, 2):
        term *= (j - 1) / j * np.cos(theta) ** 2
        total += term
    if odd:
        return float(2 / np.pi * (theta + np.sin(theta) * total))
    return float(np.sin(theta) * total)
