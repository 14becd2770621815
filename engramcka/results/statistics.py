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


def known_cells(similarity: Float, replicates: Float | None) -> npt.NDArray[np.bool_]:
    """(y layers, x layers) whether a cell has a value, in the map and in every replicate of it.

    Args:
        similarity: (y layers, x layers).
        replicates: (n, y layers, x layers), without each group or shuffled; None for none.
    """
    there: npt.NDArray[np.bool_] = np.isfinite(similarity)
    return there if replicates is None else there & np.isfinite(replicates).all(axis=0)


def deviation(values: Float) -> Float:
    """Standard deviation of the finite values along the last dimension, with n - 1.

    NaN where fewer than two are finite.
    """
    there = np.isfinite(values)
    count = there.sum(axis=-1)
    gaps = np.where(there, values - mean_finite(values)[..., None], 0.0)
    squares = (gaps**2).sum(axis=-1)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


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
    half = student_quantile(groups - 1) * jackknife_error(t)
    center = np.asarray(estimate, dtype=np.float64)
    return center - half, center + half


def jackknife_error(jackknife: Float) -> Float:
    """Standard errors (...) from estimates (G, ...) that each leave one group out; 0 of none."""
    groups = len(jackknife)
    if not groups:
        return np.zeros(jackknife.shape[1:])
    squares = ((jackknife - jackknife.mean(axis=0)) ** 2).sum(axis=0)
    return np.asarray(np.sqrt((groups - 1) / groups * squares))


def clustered_mean(
    values: Float, clusters: npt.NDArray[np.int64], weights: Float | None = None
) -> tuple[Float, Float, Float]:
    """Mean of values that are alike within a cluster, and its 95 % interval.

    The mean is over all values alike; the interval is the jackknife's with one whole cluster left
    out at a time, so that it is as wide as clusters differ, however many values each holds
    (Efron and Stein 1981 on clusters as units; Cochran 1977, section 9, for the ratio of sums).

    Args:
        values: (n, ...).
        clusters: (n,) number of the cluster of each, from 0.
        weights: (n,) 0 or more; 0 leaves a value out; all alike if None.

    Returns:
        Mean, low and high end, each (...); the ends are NaN with fewer than two clusters, all three
        where every weight is 0.
    """
    weight = np.ones(len(values)) if weights is None else weights
    used, cluster = np.unique(clusters[weight > 0], return_inverse=True)
    value, weight = values[weight > 0], weight[weight > 0]
    count = np.bincount(cluster, weight, minlength=len(used))
    sums = np.zeros((len(used), *values.shape[1:]))
    shape = (-1,) + (1,) * (values.ndim - 1)
    np.add.at(sums, cluster, value * weight.reshape(shape))
    total = sums.sum(axis=0)
    if not len(used):
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing, nothing
    mean = total / count.sum()
    if len(used) < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    without = (total - sums) / (count.sum() - count).reshape(shape)
    return mean, *jackknife_interval(mean, without)


def paired_interval(differences: Float, clusters: npt.NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the mean of differences that both seeds and documents are drawn for.

    Two models' losses on the same text differ far less from document to document than either does.
    The squared errors over documents (the jackknife's, of the mean over seeds; see
    `clustered_mean`) and over seeds (of the means over text) are added, which is never too little
    (Cameron, Gelbach and Miller 2011, on two-way clusters, without the term taken off); the t
    quantile is at Satterthwaite's degrees of freedom (1946). With one seed the interval is over
    documents alone.

    Args:
        differences: (seeds, n), losses of one model less those of the other.
        clusters: (n,) number of the document of each, from 0.

    Returns:
        Its ends; NaN with fewer than two documents.
    """
    mean, low, high = (float(x) for x in clustered_mean(differences.mean(axis=0), clusters))
    seeds, documents = len(differences), len(np.unique(clusters))
    if seeds < 2 or documents < 2:
        return low, high
    variances = np.array(
        [
            ((high - low) / 2 / student_quantile(documents - 1)) ** 2,
            differences.mean(axis=1).var(ddof=1) / seeds,
        ]
    )
    if not variances.any():
        return mean, mean
    degrees = variances.sum() ** 2 / (variances**2 / [documents - 1, seeds - 1]).sum()
    half = student_quantile(max(1, int(degrees))) * float(np.sqrt(variances.sum()))
    return mean - half, mean + half


def student_quantile(degrees: int, within: float = 0.95) -> float:
    """Half width of the middle of Student's t; the finite sums of Abramowitz and Stegun 26.7.3, 4.

    Args:
        degrees: degrees of freedom.
        within: probability of the middle, at least 0.95: the 97.5 % point by default.
    """
    low, high = 1.9, 13.0
    while _student_within(high, degrees) < within:
        low, high = high, 2 * high
    while high - low > 1e-10 * max(1.0, high / 13):
        middle = (low + high) / 2
        low, high = (low, middle) if _student_within(middle, degrees) > within else (middle, high)
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
