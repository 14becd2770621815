"""Every estimator once more, slow and plain, in float64 NumPy: what the package is held against."""

from __future__ import annotations

from itertools import pairwise, permutations

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


def hsic_of_four(k, l, documents):  # noqa: E741
    """HSIC's kernel averaged over all ordered sets of four samples of four documents, one by one.

    Song et al. 2012, section 2.2: the mean of K_ij (L_ij + L_qr - 2 L_iq).
    """
    total, count = 0.0, 0
    for i, j, q, r in permutations(range(len(k)), 4):
        if len({documents[i], documents[j], documents[q], documents[r]}) == 4:
            total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
            count += 1
    return total / count


def hsic_across(k, l, documents):  # noqa: E741
    """The same average, pair of documents by pair of documents."""
    which = np.unique(documents, return_inverse=True)[1]
    member = (which[:, None] == np.arange(which.max() + 1)).astype(float)  # (samples, documents)
    size, different = member.sum(axis=0), which[:, None] != which
    k, l = k * different, l * different  # noqa: E741
    k_rows, l_rows = k @ member, l @ member  # (samples, documents)
    k_sums, l_sums = member.T @ k_rows, member.T @ l_rows  # (documents, documents)
    products = member.T @ (k * l) @ member
    total = 0.0
    sets = 0.0
    for a in range(len(size)):
        for b in range(len(size)):
            if a == b:
                continue
            rest = np.ones(len(size))
            rest[[a, b]] = 0
            pairs = (size @ rest) ** 2 - (size**2) @ rest  # that i of a and j of b lack
            sets += size[a] * size[b] * pairs
            total += pairs * products[a, b] + k_sums[a, b] * (rest @ l_sums @ rest)
        # for i of a, j of b and q of c: so many r are left
        left = size.sum() - size[a] - size[:, None] - size
        np.fill_diagonal(left, 0)
        mine = which == a
        total -= 2 * ((k_rows[mine] @ left) * l_rows[mine]).sum()
    return total / sets


def cka_across(ys, xs, documents, keep=None):
    """(layers of y, layers of x) from pairs of different documents, of the samples to keep."""
    keep = np.arange(len(documents)) if keep is None else keep
    documents = np.asarray(documents)[keep]
    ks, ls = ([gram(layer[keep]) for layer in side] for side in (ys, xs))
    own = [np.array([hsic_across(k, k, documents) for k in side]) for side in (ks, ls)]
    cross = np.array([[hsic_across(k, l, documents) for l in ls] for k in ks])  # noqa: E741
    return cross / np.sqrt(own[0][:, None] * own[1])


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
