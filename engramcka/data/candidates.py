"""The places of a document that samples are drawn from, one kind for each ``data.positions``.

entity-last, mean: an entity. last: the last character of a passage that is not a space. random: a
word, a number or a run of signs, 12 characters at most, so that scripts without spaces have words
too. all: a whole passage, whose tokens are all taken. Knows nothing of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from engramcka.data.documents import Document, Entity
from engramcka.data.stdlib import dotted_names

_WORD = re.compile(r"\w{1,12}|[^\w\s]{1,12}")
_ENTITIES = ("entity-last", "mean")


class Row(NamedTuple):
    """A row of `engramcka.data.Samples`, whose columns say what each is."""

    document: str
    start: int
    end: int
    passage_start: int
    passage_end: int
    entity: str
    kind: str
    type: str


def candidates(document: Document, positions: str, passage_length: int | None) -> Iterator[Row]:
    """Every place of a document that could be a sample, in order.

    Args:
        document: where to look.
        positions: a value of ``data.positions``.
        passage_length: characters of a passage at most, whole lines; None for the whole document.
    """
    places = entities_between if positions in _ENTITIES else _PLACES[positions]
    for first, last in passages(document.text, passage_length):
        for start, end, fine, kind in places(document, first, last):
            text = "" if positions == "all" else document.text[start:end]
            yield Row(document.id, start, end, first, last, text, kind, fine)


def passages(text: str, length: int | None) -> Iterator[tuple[int, int]]:
    """Character spans of consecutive whole lines of at most ``length`` characters.

    A line that is longer by itself is a passage of its own.
    """
    if length is None:
        yield 0, len(text)
        return
    first = here = 0
    for line in text.splitlines(keepends=True):
        if here > first and here + len(line) - first > length:
            yield first, here
            first = here
        here += len(line)
    if here > first:
        yield first, here


def entities_between(document: Document, first: int, last: int) -> Iterator[Entity]:
    """The entities that stand whole between two characters: those marked, or dotted names."""
    if document.entities is None:
        return dotted_names(document.text, first, last)
    return (entity for entity in document.entities if first <= entity.start < entity.end <= last)


def _end(document: Document, first: int, last: int) -> Iterator[Entity]:
    end = first + len(document.text[first:last].rstrip())
    if end > first:
        yield Entity(end - 1, end, "", "")


def _words(document: Document, first: int, last: int) -> Iterator[Entity]:
    for match in _WORD.finditer(document.text, first, last):
        yield Entity(match.start(), match.end(), "", "")


def _whole(document: Document, first: int, last: int) -> Iterator[Entity]:
    if document.text[first:last].strip():
        yield Entity(first, last, "", "")


_PLACES: dict[str, Callable[[Document, int, int], Iterator[Entity]]] = {
    "last": _end,
    "random": _words,
    "all": _whole,
}
