"""Which passages go through the model together: alike in length, under a token budget.

The order is fixed by the lengths alone, so that a run that was stopped and started again makes the
same batches. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


def length_batches(lengths: Sequence[int], token_budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of sequences, longest first, in batches of at most ``token_budget`` padded tokens.

    Args:
        lengths: tokens of each sequence.
        token_budget: longest sequence of a batch x sequences in it; one that is longer by itself
            is a batch of its own.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        size = max(1, token_budget // longest)
        yield order[start : start + size]
        start += size


def pad(
    ids: Sequence[npt.NDArray[np.int64]], pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sequences side by side, padded on the right.

    Returns:
        Token ids and attention mask (1 on real tokens), both (batch, longest) int64.
    """
    longest = max(len(one) for one in ids)
    padded = np.full((len(ids), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), longest), dtype=np.int64)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return padded, mask
