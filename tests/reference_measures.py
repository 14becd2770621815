"""Every measure but CKA once more, slow and plain, in float64 NumPy, one pair of layers at a time.

Each takes (samples, width) features of both layers, and a document a sample where pairs of samples
of one document do not count.
"""

from __future__ import annotations

import numpy as np


def _different(documents, n):
    documents = np.arange(n) if documents is None else np.asarray(documents)
    return documents[:, None] != documents[None]


def ranks(values):
    """From 0; equal ones get the mean of their places."""
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return (below + upto - 1) / 2


def distances(x, documents=None):
    """1 - Pearson's correlation of two samples over the dimensions, of each pair that counts."""
    return (1 - np.corrcoef(x))[np.triu(_different(documents, len(x)), 1)]


def rsa(y, x, documents=None):
    one, two = (ranks(distances(a, documents).round(12)) for a in (y, x))
    return np.corrcoef(one, two)[0, 1]


def procrustes(y, x, documents=None):
    y, x = y - y.mean(axis=0), x - x.mean(axis=0)
    singular = np.linalg.svd(y.T @ x, compute_uv=False)
    return singular.sum() / (np.linalg.norm(y) * np.linalg.norm(x))


def cosines(x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def nearest(x, k, documents=None):
    """(samples, k) the nearest others by cosine."""
    similar = np.where(_different(documents, len(x)), cosines(x), -np.inf)
    return np.argsort(-similar, axis=1, kind="stable")[:, :k]


def mutual_knn(y, x, documents=None, k=10):
    both = zip(nearest(y, k, documents), nearest(x, k, documents), strict=True)
    return np.mean([len(set(a) & set(b)) / k for a, b in both])


def cknna(y, x, documents=None, k=10):
    different = _different(documents, len(y))
    grams, near = [], []
    for features in (y, x):
        gram = cosines(features)
        means = [row[there].mean() for row, there in zip(gram, different, strict=True)]
        grams.append(gram - np.array(means)[:, None])
        mask = np.zeros_like(gram, dtype=bool)
        for i, others in enumerate(nearest(features, k, documents)):
            mask[i, others] = True
        near.append(mask)

    def aligned(a, b):
        return (grams[a] * grams[b] * near[a] * near[b]).sum()

    return aligned(0, 1) / np.sqrt(aligned(0, 0) * aligned(1, 1))


def components(x, variance, most):
    """Principal components that hold so much of the variance.

    Returns:
        (samples, components), and (samples, width) features made of them alone.
    """
    x = x - x.mean(axis=0)
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    share = np.cumsum(singular**2) / (singular**2).sum()
    there = int((singular > 1e-6 * singular[0]).sum())
    count = min(int((share < variance - 1e-12).sum()) + 1, there, most)
    scores = (left * singular)[:, :count]
    return scores, scores @ right[:count]


def canonical(y, x):
    """Canonical correlations, and the directions in the space of samples of y and of x."""
    (qy, _), (qx, _) = (np.linalg.qr(a - a.mean(axis=0)) for a in (y, x))
    left, singular, right = np.linalg.svd(qy.T @ qx, full_matrices=False)
    return singular, qy @ left, qx @ right.T


def svcca(y, x, documents=None, variance=0.99, most=None):
    most = len(y) // 10 if most is None else most
    return canonical(*(components(a, variance, most)[0] for a in (y, x)))[0].mean()


def pwcca(y, x, documents=None, variance=1.0, most=None):
    most = len(y) // 10 if most is None else most
    return weighted(*(components(a, variance, most) for a in (y, x)))


def weighted(y, x, keep=slice(None)):
    """PWCCA of the components and features of both layers, over the samples to keep."""
    found, scores = [], (y[0][keep], x[0][keep])
    singular, *directions = canonical(*scores)
    for own, (_, features) in enumerate((y, x)):
        if scores[own].shape[1] <= scores[1 - own].shape[1]:
            features = features[keep] - features[keep].mean(axis=0)
            weights = np.abs(directions[own].T @ features).sum(axis=1)
            found.append((weights * singular).sum() / weights.sum())
    return np.mean(found)
