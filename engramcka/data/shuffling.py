"""Passages with their words in a random order, around samples that stay in their places.

What a model shows on such text is what it makes of the words themselves: the sentences are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engramcka.data.samples import keyed_random

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class ShuffledPassage:
    """A passage's text in another order, and where spans of it that stayed are now."""

    text: str
    moved: dict[tuple[int, int], tuple[int, int]]
    """Characters of each span that stays, from and to before: as they were -> as they are."""


def shuffle_words(
    text: str, stay: Iterable[tuple[int, int]], *, seed: int, document: str, start: int
) -> ShuffledPassage:
    """Put the words of a passage in a random order, but for those that a span touches.

    Words are what stands between spaces; the spaces stay as they are, and each span keeps its
    place among the words. The order is a function of the arguments alone.

    Args:
        text: the passage.
        stay: (first character, one past the last) of each span, within the passage.
        seed: the run's.
        document: id of the document.
        start: first character of the passage in it.
    """
    spans = sorted(set(stay))
    words = [match.span() for match in _WORD.finditer(text)]
    free = [word for word in words if not _touches(word, spans)]
    places = np.array(free, dtype=np.int64).reshape(-1, 2) + start
    order = np.argsort(keyed_random(seed, "shuffle", document, places), kind="stable")
    pieces: list[str] = []
    here = 0
    for (first, last), source in zip(free, order.tolist(), strict=True):
        begin, end = free[source]
        pieces += [text[here:first], text[begin:end]]
        here = last
    pieces.append(text[here:])
    # A span moves by what the words before it have grown.
    lengths = np.array([last - first for first, last in free], dtype=np.int64)
    grown = np.concatenate([[0], np.cumsum(lengths[order] - lengths)]).tolist()
    ends = np.array([last for _, last in free], dtype=np.int64)
    moved = {}
    for first, last in spans:
        by = grown[int(np.searchsorted(ends, first, side="right"))]
        moved[first, last] = (first + by, last + by)
    return ShuffledPassage("".join(pieces), moved)


def _touches(word: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    return any(word[0] < last and first < word[1] for first, last in spans)
