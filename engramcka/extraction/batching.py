"""Which passages go through a model together, how much of each, and how they stand side by side.

All of it follows from lengths alone, so that a run that was stopped and started again makes the
same batches, and any number of ranks too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536}  # padded tokens a forward pass, to begin with
BATCH_COST = {"cpu": 64, "cuda": 512}
"""What a further batch costs, in tokens: padding is taken where it is the smaller of the two."""

Plan = Literal["cut", "whole", "by-length"]
"""How batches of a store are made: by least waste, of passages that end at their last wanted token
or are whole; or "by-length", of whole passages, as before there were the other two."""

CUT: Final = "cut"
WHOLE: Final = "whole"
BY_LENGTH: Final = "by-length"
PLANS: tuple[Plan, ...] = (CUT, WHOLE, BY_LENGTH)


def length_batches(lengths: Sequence[int], token_budget: int) -> Iterator[Indices]:
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


def least_waste(
    lengths: Sequence[int] | Indices, token_budget: int, batch_cost: int
) -> list[Indices]:
    """Batches of similar length with the least padded tokens, each batch counted as some more.

    Of all ways to cut the lengths in their order into groups, the one with the least sum of padded
    tokens and ``batch_cost`` a batch (dynamic programming over the different lengths); a group that
    does not fit the budget is several batches.

    Args:
        lengths: (n,) tokens of each sequence.
        token_budget: longest sequence of a batch x sequences in it, at most; one that is longer by
            itself is a batch of its own.
        batch_cost: tokens that a batch costs beside those in it.

    Returns:
        Indices of the sequences of each batch, longest first.
    """
    known = np.maximum(1, np.asarray(lengths, dtype=np.int64))
    different, counts = np.unique(known, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])  # sequences shorter than each length
    least = np.zeros(len(different) + 1, dtype=np.int64)
    begin = np.zeros(len(different) + 1, dtype=np.int64)
    for end, longest in enumerate(different.tolist(), start=1):
        rows = below[end] - below[:end]
        batches = -(-rows // max(1, token_budget // longest))
        costs = least[:end] + rows * longest + batch_cost * batches
        begin[end] = np.argmin(costs)
        least[end] = costs[begin[end]]
    order = np.argsort(-known, kind="stable")
    found: list[Indices] = []
    end = len(different)
    while end:
        first = int(begin[end])
        group = order[len(order) - below[end] : len(order) - below[first]]
        at_once = max(1, token_budget // int(different[end - 1]))
        found += np.array_split(group, -(-len(group) // at_once))
        end = first
    return found


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
