"""Hidden states that are hard on a CKA estimator, arrays like a Zarr store's, and drawn batches."""

import ml_dtypes
import numpy as np

from engramcka.similarity.documents import document_numbers, draw


def drawn(n, batch_size, seed=0, groups=None, pairs="across-documents"):
    """The batches that a map over these samples is made from, and what it leaves out together."""
    documents = None if groups is None else document_numbers(groups)
    across = pairs == "across-documents"
    return draw(n, batch_size, seed, documents, random=True, across=across)


def layers(rng, n, widths, dtype=np.float32, shared=None):
    """Layers that have something in common: (n, width) each."""
    shared = rng.standard_normal((n, 8)) if shared is None else shared
    return [
        (shared @ rng.standard_normal((8, w)) * 0.5 + rng.standard_normal((n, w))).astype(dtype)
        for w in widths
    ]


def massive(x):
    """A common offset of 1e3 and one dimension x 1000, as in an LLM's residual stream."""
    x = x.astype(np.float64)
    x[:, 0] *= 1000
    return (x + 1e3).astype(np.float32)


def two_massive(x):
    """Two dimensions x 1e4."""
    x = x.copy()
    x[:, 0] *= 1e4
    x[:, -1] *= 1e4
    return x


def low_rank(x):
    """Rank 2 at most."""
    rng = np.random.default_rng(x.shape[1])
    return (x[:, :2] @ rng.standard_normal((min(2, x.shape[1]), x.shape[1]))).astype(np.float32)


def huge_samples(x):
    """Every hundredth sample x 1000, as a first token is."""
    x = x.copy()
    x[::100] *= 1000
    return x


def bfloat16(x):
    return x.astype(ml_dtypes.bfloat16)


def float16(x):
    return x.astype(np.float16)


def far_out(x):
    """Values whose products of products leave float32's range."""
    return x * np.float32(1e16)


def tiny(x):
    return x * np.float32(1e-20)


def as_is(x):
    return x


KINDS = [
    as_is,
    massive,
    two_massive,
    low_rank,
    huge_samples,
    bfloat16,
    float16,
    far_out,
    tiny,
]


class Blocks:
    """As a Zarr array: slices of samples only, and it remembers the longest that was read."""

    ndim = 2

    def __init__(self, values):
        self._values = values
        self.shape, self.dtype = values.shape, values.dtype
        self.longest = 0

    def __getitem__(self, index):
        assert isinstance(index, slice)
        block = self._values[index]
        self.longest = max(self.longest, len(block))
        return block.copy()
