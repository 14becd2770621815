"""Passages one behind the other in rows, where padding each to the longest would cost more.

Of sentences no grouping by length comes near to no padding on a GPU: whoever wants large batches
out of the few passages of a chunk gets different lengths in them. Where a model keeps passages of
a row apart by their position ids (`engramcka.extraction.causality`), rows are filled up instead.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engramcka.stores import layout

Indices = npt.NDArray[np.int64]

ROW: Final = 128  # tokens of the shortest rows; others are this, doubled some times
ALIGNED: Final = 16  # rows are padded to a multiple: attention takes no other masks without a copy
_ATTENTION = 16_384  # tokens of a row whose attention costs as much as all else, at width 2,560
_FACTORS = (1, 2, 4)  # least share of a row that may be one passage's
MERGED_TOKENS: Final = 8192  # rows of a length that hold less are made longer

_LEAST_CHUNK, _CHUNK_TOKENS, _CHUNK_PASSAGES = 256, 6144, 64
_MANY_SAMPLES = 65_536


def packed_rows(lengths: Sequence[int] | Indices, budget: int) -> list[list[int]]:
    """Rows that are nearly full, the longest first.

    Passages, the longest first, each in the fullest row that has room for it, or in a new one. A
    new row is of 128 tokens, doubled until the passage fits once, twice or four times, whichever
    comes to the least padded tokens, attention over long rows counted too.

    Args:
        lengths: (n,) tokens of each passage.
        budget: tokens of a row at most, but for a passage that is longer by itself.

    Returns:
        Indices of the passages of each row, in their order.
    """
    known = np.maximum(1, np.asarray(lengths, dtype=np.int64))
    most = np.maximum(budget, known)
    tried = [_filled(known, np.minimum(most, _sizes(known, factor))) for factor in _FACTORS]
    return min(tried, key=lambda rows: _cost(known, rows))


def chunk_samples(samples: int, passages: int, tokens: int) -> int:
    """Samples of a chunk of a store at most, as few as keep a GPU busy where passages are packed.

    What is shared out over ranks are chunks, and of packed passages small ones need no more padding
    than large ones: the smallest of 256, 512, 1,024 and 2,048 samples with about 8,192 tokens
    (6,144 at least) and 64 passages, since one that two chunks want is run for both. Of very many
    samples there are chunks enough.

    Args:
        samples: of the store.
        passages: that they stand in.
        tokens: of those that are run.
    """
    size = _LEAST_CHUNK
    if samples > _MANY_SAMPLES:
        return layout.CHUNK_SAMPLES
    while size < layout.CHUNK_SAMPLES and (
        size * tokens < _CHUNK_TOKENS * samples or size * passages < _CHUNK_PASSAGES * samples
    ):
        size *= 2
    return size


def row_tokens(lengths: Sequence[int] | Indices, rows: Sequence[Sequence[int]]) -> Indices:
    """Tokens of each row, without padding."""
    known = np.maximum(1, np.asarray(lengths, dtype=np.int64))
    return np.array([known[row].sum() for row in rows], dtype=np.int64)


def _sizes(known: Indices, factor: int) -> Indices:
    """(n,) tokens of the row that each passage would open.

    Passages whose rows would hold few tokens together are given the next longer rows, as far as
    there are any.
    """
    doublings = np.ceil(np.log2(np.maximum(1, known * factor / ROW))).astype(np.int64)
    for step in range(int(doublings.max())):
        shorter = doublings == step
        if shorter.any() and known[shorter].sum() < MERGED_TOKENS:
            doublings[shorter] = step + 1
    return ROW << doublings


def _filled(known: Indices, sizes: Indices) -> list[list[int]]:
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens free, row), ascending
    for passage in np.argsort(-known, kind="stable").tolist():
        length = int(known[passage])
        place = bisect_left(room, (length, -1))
        if place < len(room):
            free, row = room.pop(place)
            rows[row].append(passage)
        else:
            free, row = int(sizes[passage]), len(rows)
            rows.append([passage])
        if free > length:
            insort(room, (free - length, row))
    return rows


def _cost(known: Indices, rows: Sequence[Sequence[int]]) -> float:
    """Tokens of the rows, those of long ones counted as more."""
    tokens = -(-row_tokens(known, rows) // ALIGNED) * ALIGNED
    return float((tokens * (1 + tokens / _ATTENTION)).sum())
