"""Samples: places in passages, with an identity that no tokenizer has a part in.

A sample is a character span of a document: an entity, a word, the end of a passage; the passage
around it is what a model reads. Two models with different tokenizers see the same samples. Knows
nothing of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.candidates import Row, candidates
from engramcka.data.documents import DataKeyError, Document

IDENTITY = ("document", "start", "end")  # the columns that say which sample a row is

_WHAT = {
    "entity-last": "entities",
    "mean": "entities",
    "last": "passages",
    "random": "words",
    "all": "passages",
}


@dataclass(frozen=True)
class Samples:
    """A table of samples, a row each, in the order of the corpus."""

    document: npt.NDArray[np.str_]  # (n,) id of the document
    start: npt.NDArray[np.int64]  # (n,) first character of the sample in the document
    end: npt.NDArray[np.int64]  # (n,) one past its last character
    passage_start: npt.NDArray[np.int64]  # (n,) first character of the passage
    passage_end: npt.NDArray[np.int64]  # (n,) one past its last character
    entity: npt.NDArray[np.str_]  # (n,) its text: the entity's, or the word's
    kind: npt.NDArray[np.str_]  # (n,) an entity's coarse class: "person"; "call" or "name" in code
    type: npt.NDArray[np.str_]  # (n,) its fine class: "person-actor"; empty where there is none

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: npt.NDArray[Any]) -> Samples:
        """The rows at these indices (or under this mask)."""
        return Samples(**{name: column[rows] for name, column in self.columns().items()})

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Samples:
        """A table of rows, at least one."""
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> (n,) array."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def draw_samples(
    documents: Sequence[Document],
    *,
    count: int,
    passage_length: int | None,
    seed: int,
    positions: str = "entity-last",
) -> Samples:
    """Draw samples without replacement, in the order of the corpus.

    For positions "all" a sample is a passage, which a tokenizer makes into tokens: as many passages
    as there are, ``count`` at most, in an order of their own that the seed gives.

    Args:
        documents: the documents to look in.
        count: samples to draw.
        passage_length: characters of context at most, whole lines; None for whole documents.
        seed: of the draw.
        positions: which places are drawn from, see `engramcka.data.candidates`.

    Raises:
        DataKeyError: the documents hold fewer of them.
    """
    rng = np.random.default_rng(seed)
    counts = [sum(1 for _ in candidates(doc, positions, passage_length)) for doc in documents]
    total = sum(counts)
    wanted = min(count, total) if positions == "all" else count
    if not total or total < wanted:
        raise DataKeyError(
            "samples",
            f"found {count}, the text holds {total} {_WHAT[positions]}",
            "allowed: at most that many",
        )
    chosen = rng.choice(total, size=wanted, replace=False)
    rows = dict(_rows(documents, counts, np.sort(chosen), positions, passage_length))
    order = chosen if positions == "all" else np.sort(chosen)
    return Samples.of([rows[number] for number in order.tolist()])


def _rows(
    documents: Sequence[Document],
    counts: Sequence[int],
    chosen: npt.NDArray[np.int64],
    positions: str,
    passage_length: int | None,
) -> Iterator[tuple[int, Row]]:
    """(number, row) of the chosen candidates, counted through all documents in order."""
    ends = np.cumsum(counts)
    cuts = np.searchsorted(chosen, ends)
    before = 0
    for index, cut in enumerate(cuts.tolist()):
        if cut > before:
            start = int(ends[index]) - counts[index]
            wanted = set(chosen[before:cut].tolist())
            rows = enumerate(candidates(documents[index], positions, passage_length), start=start)
            yield from ((number, row) for number, row in rows if number in wanted)
        before = cut


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
