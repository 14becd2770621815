"""Samples: places in passages, with an identity that no tokenizer has a part in.

A sample is a character span of a document: an entity, a word, the end of a passage; the passage
around it is what a model reads. Two models with different tokenizers see the same samples. Knows
nothing of tokens.

Under a cap a document, samples are drawn by random numbers that are theirs for good, made from the
seed, the document's id and the characters: those with the smallest of a document are its pool, and
those with the smallest of a second, independent number in all pools are the draw. So it is uniform
over the capped pool; a draw of fewer samples is a part of a draw of more; and what else the corpus
holds, or another `passage_length`, changes no sample's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.candidates import Row, candidates
from engramcka.data.documents import DataKeyError, Document
from engramcka.data.lots import lots

Ints = npt.NDArray[np.int64]

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
    # (n,) of passages under a cap a document: tokens of each at most; None where there is no cap
    most: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: npt.NDArray[Any]) -> Samples:
        """The rows at these indices (or under this mask)."""
        columns = {name: column[rows] for name, column in self.columns().items()}
        return Samples(**columns, most=None if self.most is None else self.most[rows])

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Samples:
        """A table of rows, at least one."""
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> (n,) array."""
        return {name: getattr(self, name) for name in Row._fields}

    def spread(self) -> tuple[int, int]:
        """Documents that samples are of, and the largest number of samples in one of them."""
        _, counts = np.unique(self.document, return_counts=True)
        return len(counts), int(counts.max(initial=0))


def draw_samples(
    documents: Sequence[Document],
    *,
    count: int,
    passage_length: int | None,
    seed: int,
    positions: str = "entity-last",
    per_document: int | None = None,
    spare: bool = False,
) -> Samples:
    """Draw samples without replacement, in the order of the corpus.

    For positions "all" a sample is a passage, which a tokenizer makes into tokens: as many passages
    as there are, ``count`` at most, in an order of their own that the seed gives. Under a cap, at
    most that many passages of a document, which share the cap out in their ``most``.

    Args:
        documents: the documents to look in.
        count: samples to draw.
        passage_length: characters of context at most, whole lines; None for whole documents.
        seed: of the draw.
        positions: which places are drawn from, see `engramcka.data.candidates`.
        per_document: samples of one document at most; None for no cap.
        spare: of positions "all", all passages, in the same order: some may give no sample.

    Raises:
        DataKeyError: the documents hold fewer of them.
    """
    counts = [sum(1 for _ in candidates(doc, positions, passage_length)) for doc in documents]
    pool, draw, most = _pool(documents, counts, positions, passage_length, seed, per_document)
    wanted = min(count, len(pool)) if positions == "all" else count
    if not len(pool) or len(pool) < wanted:
        raise DataKeyError("samples", *too_few(count, len(pool), _WHAT[positions], per_document))
    spare = spare and positions == "all"
    if draw is None:
        chosen = np.random.default_rng(seed).choice(len(pool), size=wanted, replace=False)
        if spare and wanted < len(pool):
            rest = np.setdiff1d(np.arange(len(pool)), chosen)
            chosen = np.concatenate([chosen, np.random.default_rng([seed, 1]).permutation(rest)])
    else:
        chosen = np.argsort(draw, kind="stable")[: None if spare else wanted]
    order = chosen if positions == "all" else chosen[np.argsort(pool[chosen])]
    found = dict(_rows(documents, counts, np.sort(pool[order]), positions, passage_length))
    samples = Samples.of([found[number] for number in pool[order].tolist()])
    return samples if most is None else replace(samples, most=most[order])


def too_few(count: int, found: int, what: str, per_document: int | None) -> tuple[str, str]:
    """What is wrong where the text holds fewer samples than asked for, and what is allowed."""
    if per_document is None:
        return f"found {count}, the text holds {found} {what}", "allowed: at most that many"
    return (
        f"found {count}, with at most {per_document} of a document (data.per_document) the text "
        f"holds {found} {what}",
        "allowed: at most that many; or raise data.per_document, or give more documents",
    )


def _pool(
    documents: Sequence[Document],
    counts: Sequence[int],
    positions: str,
    passage_length: int | None,
    seed: int,
    per_document: int | None,
) -> tuple[Ints, npt.NDArray[np.uint64] | None, Ints | None]:
    """Numbers of the candidates that may be drawn, counted through all documents in order.

    Returns:
        (n,) numbers; (n,) what to draw them by, the smallest first, under a cap; and (n,) tokens of
        each at most, where they are passages under a cap.
    """
    if per_document is None:
        return np.arange(sum(counts)), None, None
    numbers: list[Ints] = []
    draw: list[npt.NDArray[np.uint64]] = []
    most: list[Ints] = []
    before = 0
    for document, size in zip(documents, counts, strict=True):
        rows = candidates(document, positions, passage_length)
        places = np.array([(row.start, row.end) for row in rows], dtype=np.int64).reshape(-1, 2)
        order = np.argsort(lots(seed, "pool", document.id, places), kind="stable")[:per_document]
        numbers.append(before + order)
        draw.append(lots(seed, "draw", document.id, places[order]))
        most.append(_shares(per_document, len(order)))
        before += size
    shares = np.concatenate(most) if positions == "all" else None
    return np.concatenate(numbers), np.concatenate(draw), shares


def _shares(total: int, parts: int) -> Ints:
    """A number as (parts,) whole numbers that differ by one at most, the larger ones first."""
    return np.full(parts, total // max(1, parts)) + (np.arange(parts) < total % max(1, parts))


def _rows(
    documents: Sequence[Document],
    counts: Sequence[int],
    chosen: Ints,
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
