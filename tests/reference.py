"""Every estimator once more, slow and plain, in float64 NumPy: what the package is held against."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def gram(x):
    """Linear Gram matrix of features centred over the samples given."""
    x = np.asarray(x).astype(np.float64)
    x = x - x.mean(axis=0)
    return x @ x.T


def hsic_unbiased(k, l):  # noqa: E741
    """Song et al. 2012, equation 5."""
    n = len(k)
    k, l = k.copy(), l.copy()  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    one = np.ones(n)
    trace = (k * l).sum()  # tr(K L): both are symmetric
    totals = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (trace + totals - 2 / (n - 2) * ((one @ k) @ (l @ one))) / (n * (n - 3))


def hsic_biased(k, l):  # noqa: E741
    """Gretton et al. 2005, equation 9: tr(K H L H), as the inner product of H K H with L."""
    n = len(k)
    k = k - k.mean(axis=0)
    k = k - k.mean(axis=1, keepdims=True)
    return (k * l).sum() / (n - 1) ** 2


def batches(n, size):
    """Consecutive batches; a last one below 4 samples is merged into the one before."""
    edges = [*range(0, n, size), n]
    if len(edges) > 2 and n - edges[-2] < 4:
        edges.pop(-2)
    return [np.arange(a, b) for a, b in pairwise(edges)]


def cka(y, x, kernels=(gram, gram), **options):
    """One pair of layers: (samples, width) each; one kernel function a layer."""
    return cka_matrix([y], [x], kernels=([kernels[0]], [kernels[1]]), **options)[0, 0]


def cka_matrix(ys, xs, estimator="minibatch", batch_size=1024, kernels=None, parts=None):
    """(layers of y, layers of x).

    The minibatch estimator is over parts, the samples of each batch; consecutive ones if left out.
    """
    n = len(ys[0])
    kernels = kernels or ([gram] * len(ys), [gram] * len(xs))
    if parts is None:
        parts = batches(n, batch_size) if estimator == "minibatch" else [np.arange(n)]
    hsic = hsic_biased if estimator == "biased" else hsic_unbiased
    cross = np.zeros((len(ys), len(xs)))
    y_self, x_self = np.zeros(len(ys)), np.zeros(len(xs))
    for part in parts:
        ks = [kernel(y[part]) for kernel, y in zip(kernels[0], ys, strict=True)]
        ls = [kernel(x[part]) for kernel, x in zip(kernels[1], xs, strict=True)]
        cross += [[hsic(k, l) for l in ls] for k in ks]  # noqa: E741
        y_self += [hsic(k, k) for k in ks]
        x_self += [hsic(l, l) for l in ls]  # noqa: E741
    return cross / np.sqrt(y_self[:, None] * x_self)


def rbf(bandwidth):
    """Kernel function with a fixed bandwidth."""

    def kernel(x):
        x = np.asarray(x).astype(np.float64)
        x = x - x.mean(axis=0)
        squared = ((x[:, None] - x[None]) ** 2).sum(axis=2)
        return np.exp(-squared / (2 * bandwidth**2))

    return kernel


def median_distance(x):
    """Median distance of two different samples; the lower one of an even number."""
    x = np.asarray(x).astype(np.float64)
    pairs = np.triu_indices(len(x), 1)
    distances = np.sort(np.sqrt(((x[pairs[0]] - x[pairs[1]]) ** 2).sum(axis=1)))
    return distances[(len(distances) - 1) // 2]


def zscore(x):
    """Each dimension by its standard deviation; one that does not vary is zero."""
    x = np.asarray(x).astype(np.float64)
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)


def population_cka(y_map, x_map, noise=1.0):
    """CKA of y = z A + e and x = z B + e' with z, e, e' standard Gaussian, for infinite n.

    |A'B|^2 / (|A'A + s I| |B'B + s I|), Frobenius norms, s the noise variance.
    """
    cross = (y_map.T @ x_map) ** 2
    own = [np.linalg.norm(m.T @ m + noise * np.eye(m.shape[1])) for m in (y_map, x_map)]
    return cross.sum() / (own[0] * own[1])
