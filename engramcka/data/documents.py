"""Documents and their entities: spans that the source marked, or dotted names in code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from engramcka.errors import DataError

OUTSIDE = "O"  # the tag of words that are in no entity
_DOTTED_NAME = re.compile(
    r"(?<![\w.])(?!(?:self|cls)\.|(?:e\.g|i\.e)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
)


class DataKeyError(DataError):
    """The data does not fit one key of ``[data]``; the caller adds the config's file and line."""

    def __init__(self, key: str, problem: str, allowed: str = "") -> None:
        self.key, self.problem, self.allowed = key, problem, allowed
        text = f"data.{key}: {problem}"
        super().__init__(f"{text}; {allowed}" if allowed else text)


class Entity(NamedTuple):
    """A named span of a document."""

    start: int  # first character
    end: int  # one past the last
    type: str  # "person-actor"
    kind: str  # the coarser class: "person"


@dataclass(frozen=True)
class Document:
    """A piece of text with a name that stays the same whoever reads it."""

    id: str
    text: str
    entities: tuple[Entity, ...] | None = None  # None: not marked; dotted names are looked for


def entities_of_spans(spans: Any, text: str, where: str) -> tuple[Entity, ...]:
    """The entities of a column of ``[{start, end, type}]``, in order, each span once.

    Args:
        spans: the column's value; character offsets into ``text``, end exclusive. A table of
            equally long lists will do too.
        text: what they are spans of.
        where: the row, for messages.

    Raises:
        DataKeyError: not such a list, or a span that is not inside the text.
    """
    found: dict[tuple[int, int], Entity] = {}
    if isinstance(spans, Mapping):  # as `datasets` gives a Sequence of tables: columns
        columns = [value for value in spans.values() if isinstance(value, list)]
        if len(columns) == len(spans) and len({len(column) for column in columns}) == 1:
            spans = [dict(zip(spans, row, strict=True)) for row in zip(*columns, strict=True)]
    if not isinstance(spans, Sequence) or isinstance(spans, str):
        raise _bad_span(where, spans, "a list of {start, end, type}")
    for span in spans:
        try:
            start, end, kind = span["start"], span["end"], span.get("type")
        except (KeyError, TypeError, AttributeError) as error:
            raise _bad_span(where, span, "a table with start, end and type") from error
        if not (type(start) is type(end) is int and 0 <= start < end <= len(text)):
            allowed = f"0 <= start < end <= {len(text)}, the length of the text"
            raise _bad_span(where, span, allowed)
        name = "" if kind is None else str(kind)
        found.setdefault((start, end), Entity(start, end, name, name.partition("-")[0]))
    return tuple(found[key] for key in sorted(found))


def _bad_span(where: str, span: Any, allowed: str) -> DataKeyError:
    shown = str(span) if len(str(span)) <= 80 else f"{str(span)[:77]}..."
    return DataKeyError("entities_column", f"{where} holds {shown}", f"allowed: {allowed}")


def entities_of_tags(
    words: Sequence[str], tags: Sequence[str], kinds: Sequence[str]
) -> Iterator[Entity]:
    """Runs of words with one tag, as character spans of the words joined by single spaces.

    Few-NERD tags words without saying where one entity ends and the next begins, so a run of the
    same fine tag is one entity (Ding et al. 2021 evaluate it so).

    Args:
        words: of a sentence.
        tags: fine tag of each; `OUTSIDE` for none.
        kinds: coarse tag of each.
    """
    start = 0
    places: list[tuple[int, int]] = []
    for word in words:
        places.append((start, start + len(word)))
        start += len(word) + 1
    for tag, run in groupby(range(len(words)), key=lambda index: tags[index]):
        if tag != OUTSIDE:
            members = list(run)
            first, last = members[0], members[-1]
            yield Entity(places[first][0], places[last][1], tag, kinds[first])


def entities_between(document: Document, first: int, last: int) -> Iterator[Entity]:
    """The entities that stand whole between two characters: those marked, or dotted names."""
    if document.entities is None:
        return dotted_names(document.text, first, last)
    return (entity for entity in document.entities if first <= entity.start < entity.end <= last)


def dotted_names(text: str, first: int, last: int) -> Iterator[Entity]:
    """The dotted names between two characters, each a "call" or a "name"."""
    for match in _DOTTED_NAME.finditer(text, first, last):
        kind = "call" if text[match.end() : match.end() + 1] == "(" else "name"
        yield Entity(match.start(), match.end(), kind, kind)
