"""Passages with their words in a random order, around samples that stay in their places.

What a model shows on such text is what it makes of the words themselves: the sentences are gone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from engramcka.data.samples import keyed_random

# Scripts that put no spaces between words: Thai to Tibetan, Myanmar, Khmer, kana, Han, and their
# extensions. Their words are taken to be characters, each with the marks that belong to it.
_SPACELESS = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u1a20-\u1aaf\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029"
    "\u3031-\u3035\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uaa60-\uaa7f\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_SPACELESS}]|[^\s{_SPACELESS}]+")


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

    Words are what stands between spaces, and in scripts without spaces single characters. Spaces
    stay as they are, and each span keeps its place among the words. The order is a function of the
    arguments alone.

    Args:
        text: the passage.
        stay: (first character, one past the last) of each span, within the passage.
        seed: the run's.
        document: id of the document.
        start: first character of the passage in it.
    """
    spans = sorted(set(stay))
    words = list(_words(text))
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


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Characters of each word, from and to before; a mark goes with the character before it."""
    first = last = -1
    for match in _WORD.finditer(text):
        begin, end = match.span()
        if begin == last and unicodedata.category(text[begin])[0] == "M":
            last = end
            continue
        if last > first:
            yield first, last
        first, last = begin, end
    if last > first:
        yield first, last


def _touches(word: tuple[int, int], spans: list[tuple[int, int]]) -> bool:
    return any(word[0] < last and first < word[1] for first, last in spans)
