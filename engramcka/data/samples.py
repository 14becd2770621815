"""Samples: entities in their passages, with an identity that no tokenizer has a part in.

A sample is an entity (a character span of a document); the passage around it is what a model
reads. Two models with different tokenizers see the same samples. Knows nothing of tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.corpora import Document
from engramcka.errors import DataError

IDENTITY = ("document", "start", "end")  # the columns that say which sample a row is

_DOTTED_NAME = re.compile(
    r"(?<![\w.])(?!(?:self|cls)\.|(?:e\.g|i\.e)\b)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
)


@dataclass(frozen=True)
class Samples:
    """A table of samples, a row each, in the order of the corpus."""

    document: npt.NDArray[np.str_]  # (n,) id of the document
    start: npt.NDArray[np.int64]  # (n,) first character of the entity in the document
    end: npt.NDArray[np.int64]  # (n,) one past its last character
    passage_start: npt.NDArray[np.int64]  # (n,) first character of the passage
    passage_end: npt.NDArray[np.int64]  # (n,) one past its last character
    entity: npt.NDArray[np.str_]  # (n,) the entity's text
    kind: npt.NDArray[np.str_]  # (n,) "call" or "name"

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: npt.NDArray[Any]) -> Samples:
        """The rows at these indices (or under this mask)."""
        return Samples(**{name: column[rows] for name, column in self.columns().items()})

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> (n,) array."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def draw_samples(
    documents: Sequence[Document], *, count: int, passage_length: int, seed: int
) -> Samples:
    """Draw entities without replacement, in the order of the corpus.

    Args:
        documents: the documents to look in.
        count: samples to draw.
        passage_length: characters of context at most, whole lines.
        seed: of the draw.

    Raises:
        DataError: the documents hold fewer entities.
    """
    rows = [row for document in documents for row in _entities(document, passage_length)]
    if len(rows) < count:
        raise DataError(
            f"data.samples: found {count}, the text holds {len(rows)} entities; allowed: at most "
            f"that many"
        )
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), size=count, replace=False))
    columns = list(zip(*(rows[index] for index in chosen.tolist()), strict=True))
    return Samples(*(np.array(column) for column in columns))


def common_rows(
    y: Mapping[str, npt.NDArray[Any]], x: Mapping[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of two sample tables that are the same samples, in y's order.

    Returns:
        Indices into y and into x, equally long.
    """
    place = {identity: row for row, identity in enumerate(_identities(x))}
    pairs = [
        (row, place[identity]) for row, identity in enumerate(_identities(y)) if identity in place
    ]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _identities(table: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*(table[name].tolist() for name in IDENTITY), strict=True)


def _entities(document: Document, passage_length: int) -> Iterator[tuple[Any, ...]]:
    """A row of `Samples` for every dotted name of a document."""
    for first, last in _passages(document.text, passage_length):
        for match in _DOTTED_NAME.finditer(document.text, first, last):
            called = document.text[match.end() : match.end() + 1] == "("
            yield (
                document.id,
                match.start(),
                match.end(),
                first,
                last,
                match.group(),
                "call" if called else "name",
            )


def _passages(text: str, length: int) -> Iterator[tuple[int, int]]:
    """Character spans of consecutive whole lines of at most ``length`` characters.

    A line that is longer by itself is a passage of its own.
    """
    first = here = 0
    for line in text.splitlines(keepends=True):
        if here > first and here + len(line) - first > length:
            yield first, here
            first = here
        here += len(line)
    if here > first:
        yield first, here
