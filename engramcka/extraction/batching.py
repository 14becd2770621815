"""Which passages go through a model together, how much of each, and how they stand side by side.

All of it follows from lengths alone, so that a run that was stopped and started again makes the
same batches, and any number of ranks too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from engramcka.extraction.packing import ALIGNED, packed_rows, row_tokens

Indices = npt.NDArray[np.int64]

TOKEN_BUDGET = {"cpu": 4096, "cuda": 65536}  # padded tokens a forward pass, to begin with
BATCH_COST = {"cpu": 64, "cuda": 512}
"""What a further batch costs, in tokens: padding is taken where it is the smaller of the two."""

Plan = Literal["packed", "cut", "whole", "by-length"]
"""How batches of a store are made: of passages that end at their last wanted token, "packed" one
behind the other in rows or "cut" and each a row; or "whole", both by least waste; or "by-length",
of whole passages, as before there were the others."""

PACKED: Final = "packed"
CUT: Final = "cut"
WHOLE: Final = "whole"
BY_LENGTH: Final = "by-length"
PLANS: tuple[Plan, ...] = (PACKED, CUT, WHOLE, BY_LENGTH)


@dataclass(frozen=True)
class Batch:
    """Passages that go through a model together.

    Attributes:
        rows: numbers of the passages of each row, in their order; one a row where none is packed.
        ends: number -> tokens that are run, of all passages.
    """

    rows: tuple[Indices, ...]
    ends: Mapping[int, int]

    @property
    def numbers(self) -> Indices:
        """Of its passages, row by row."""
        return np.concatenate(self.rows)

    @property
    def tokens(self) -> int:
        """Padded ones."""
        lengths = (sum(self.ends[number] for number in row.tolist()) for row in self.rows)
        return len(self.rows) * max(lengths)

    def halves(self) -> tuple[Batch, Batch] | None:
        """Two of half the rows, or of half of a row; None of a single passage."""
        if len(self.rows) > 1:
            middle = len(self.rows) // 2
            return Batch(self.rows[:middle], self.ends), Batch(self.rows[middle:], self.ends)
        row = self.rows[0]
        if len(row) == 1:
            return None
        middle = len(row) // 2
        return Batch((row[:middle],), self.ends), Batch((row[middle:],), self.ends)


def plan_batches(plan: Plan, ends: Mapping[int, int], device: str, budget: int) -> list[Batch]:
    """The batches of some passages.

    Args:
        plan: how they are made.
        ends: number of each passage -> its tokens that are run.
        device: "cpu" or "cuda".
        budget: padded tokens of a batch at most.
    """
    numbers, lengths = np.array(list(ends), dtype=np.int64), list(ends.values())
    cost = BATCH_COST[device]
    if plan == PACKED:
        rows = packed_rows(lengths, budget)
        tokens = -(-row_tokens(lengths, rows) // ALIGNED) * ALIGNED
        return [
            Batch(tuple(numbers[rows[index]] for index in batch.tolist()), ends)
            for batch in least_waste(tokens, budget, cost)
        ]
    if plan == BY_LENGTH:
        batches = list(length_batches(lengths, budget))
    else:
        batches = least_waste(lengths, budget, cost)
    return [Batch(tuple(numbers[batch][:, None]), ends) for batch in batches]


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


def lay_out(
    rows: Sequence[Sequence[npt.NDArray[np.int64]]], pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of sequences one behind the other, padded on the right to a multiple of `ALIGNED`.

    Returns:
        Token ids and positions (from 0 in each sequence, and in the padding), both (rows, longest)
        int64.
    """
    joined = [np.concatenate(row) for row in rows]
    longest = -(-max(len(one) for one in joined) // ALIGNED) * ALIGNED
    padded = np.full((len(rows), longest), pad_id, dtype=np.int64)
    positions = np.empty_like(padded)
    for place, (row, one) in enumerate(zip(rows, joined, strict=True)):
        padded[place, : len(one)] = one
        lengths = [len(part) for part in row] + [longest - len(one)]
        positions[place] = np.concatenate([np.arange(length) for length in lengths])
    return padded, positions
