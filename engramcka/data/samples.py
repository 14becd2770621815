"""Samples: places in passages, with an identity that no tokenizer has a part in.

A sample is a character span of a document: an entity, a word, the end of a passage; the passage
around it is what a model reads. Two models with different tokenizers see the same samples.

With a cap on the samples of one document, each candidate has random numbers of its own, made from
the seed, the document's id and the characters (`keyed_random`). The candidates of a document with
the smallest first numbers are its pool; the candidates of all pools with the smallest second,
independent numbers are drawn. So the draw is uniform over the pools; a draw of fewer samples is a
part of a draw of more; and neither the rest of the corpus nor another `passage_length` changes a
sample's numbers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engramcka.config.analysis_tables import ColumnTest
from engramcka.data.documents import DataKeyError, Document, Entity, entities_between

Ints = npt.NDArray[np.int64]

_IDENTITY = ("document", "start", "end")  # the columns that say which sample a row is

_WHAT = {
    "entity-last": "entities",
    "mean": "entities",
    "last": "passages",
    "random": "words",
    "all": "passages",
}
_WORD = re.compile(r"\w{1,12}|[^\w\s]{1,12}")
_ENTITIES = ("entity-last", "mean")
_STEP = 0x9E3779B97F4A7C15  # of SplitMix64: 2**64 over the golden ratio


class SampleRow(NamedTuple):
    """A row of `Samples`, whose columns say what each field is."""

    document: str
    start: int
    end: int
    passage_start: int
    passage_end: int
    entity: str
    kind: str
    type: str


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
    def of(cls, rows: Sequence[SampleRow]) -> Samples:
        """A table of rows, at least one."""
        return cls(*(np.array(column) for column in zip(*rows, strict=True)))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> (n,) array."""
        return {name: getattr(self, name) for name in SampleRow._fields}

    def spread(self) -> tuple[int, int]:
        """Documents that samples are of, and the largest number of samples in one of them."""
        _, counts = np.unique(self.document, return_counts=True)
        return len(counts), int(counts.max(initial=0))


def draw_samples(
    documents: Sequence[Document],
    *,
    count: int | None,
    passage_length: int | None,
    seed: int,
    positions: str = "entity-last",
    per_document: int | None = None,
    all_passages: bool = False,
) -> Samples:
    """Draw samples without replacement, in the order of the corpus; or take all there are.

    For positions "all" a sample is a passage, which a tokenizer makes into tokens: as many passages
    as there are, ``count`` at most, in an order of their own that the seed gives. Under a cap, at
    most that many passages of a document, which share the cap out in their ``most``.
    Without a ``count`` all of them are taken, in the order of the corpus.

    Args:
        documents: the documents to look in.
        count: samples to draw; None for all.
        passage_length: characters of context at most, whole lines; None for whole documents.
        seed: of the draw.
        positions: which places are drawn from, see `candidates`.
        per_document: samples of one document at most; None for no cap.
        all_passages: of positions "all", all passages, in the same order: some may give no sample.

    Raises:
        DataKeyError: the documents hold fewer of them.
    """
    counts = [sum(1 for _ in candidates(doc, positions, passage_length)) for doc in documents]
    pool, draw, most = _pool(documents, counts, positions, passage_length, seed, per_document)
    wanted = len(pool) if count is None else count
    if positions == "all":
        wanted = min(wanted, len(pool))
    if not len(pool) or len(pool) < wanted:
        raise DataKeyError("samples", *too_few(count, len(pool), _WHAT[positions], per_document))
    all_passages = all_passages and positions == "all"
    if count is None:
        chosen = np.argsort(pool)
    elif draw is None:
        chosen = np.random.default_rng(seed).choice(len(pool), size=wanted, replace=False)
        if all_passages and wanted < len(pool):
            rest = np.setdiff1d(np.arange(len(pool)), chosen)
            chosen = np.concatenate([chosen, np.random.default_rng([seed, 1]).permutation(rest)])
    else:
        chosen = np.argsort(draw, kind="stable")[: None if all_passages else wanted]
    order = chosen if positions == "all" else chosen[np.argsort(pool[chosen])]
    found = dict(_rows(documents, counts, np.sort(pool[order]), positions, passage_length))
    samples = Samples.of([found[number] for number in pool[order].tolist()])
    return samples if most is None else replace(samples, most=most[order])


def too_few(count: int | None, found: int, what: str, per_document: int | None) -> tuple[str, str]:
    """What is wrong where the text holds fewer samples than asked for, and what is allowed."""
    if count is None:
        return f"found 'all', the text holds {found} {what}", "give more text, or other positions"
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
        first_numbers = keyed_random(seed, "pool", document.id, places)
        order = np.argsort(first_numbers, kind="stable")[:per_document]
        numbers.append(before + order)
        draw.append(keyed_random(seed, "draw", document.id, places[order]))
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
) -> Iterator[tuple[int, SampleRow]]:
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


def candidates(
    document: Document, positions: str, passage_length: int | None
) -> Iterator[SampleRow]:
    """Every place of a document that could be a sample, in order.

    "entity-last" and "mean": an entity. "last": the last character of a passage that is not a
    space. "random": a word, a number or a run of signs, of 12 characters at most, so that scripts
    without spaces have words too. "all": a whole passage, whose tokens are all taken.

    Args:
        document: where to look.
        positions: a value of ``data.positions``.
        passage_length: characters of a passage at most, whole lines; None for the whole document.
    """
    places = entities_between if positions in _ENTITIES else _PLACES[positions]
    for first, last in passage_spans(document.text, passage_length):
        for start, end, fine, kind in places(document, first, last):
            text = "" if positions == "all" else document.text[start:end]
            yield SampleRow(document.id, start, end, first, last, text, kind, fine)


def passage_spans(text: str, length: int | None) -> Iterator[tuple[int, int]]:
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


def keyed_random(
    seed: int, purpose: str, document: str, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """Random numbers of places in the text, a pure function of the arguments.

    They do not depend on a tokenizer, on the order of the calls or on other places.

    Args:
        seed: the run's.
        purpose: numbers for different purposes are independent.
        document: its id.
        places: (n, 2) first character of each place and one past its last.

    Returns:
        (n,) uint64, uniform.
    """
    named = f"{purpose}\0{seed}\0{document}".encode(errors="surrogatepass")
    start = int.from_bytes(hashlib.blake2b(named, digest_size=8).digest(), "big")
    numbers = np.full(len(places), start, dtype=np.uint64)
    for column in places.astype(np.uint64).T:
        numbers = _mixed(numbers ^ column)
    return numbers


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea and Flood 2014): a bijection that leaves no pattern."""
    numbers = numbers + np.uint64(_STEP)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def rows_that_fit(
    tests: Iterable[ColumnTest], table: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.int64]:
    """Rows of a sample table that satisfy all conditions.

    Args:
        tests: of columns that the table has.
        table: column name -> (samples,) array.
    """
    rows = np.ones(len(next(iter(table.values()))), dtype=bool)
    for test in tests:
        column = table[test.column]
        found = np.logical_or.reduce([column == value for value in test.values])
        rows &= ~found if test.is_negated else found
    return np.flatnonzero(rows)


def common_rows(
    y: Mapping[str, npt.NDArray[Any]],
    x: Mapping[str, npt.NDArray[Any]],
    chosen: tuple[Ints, Ints] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of two sample tables that are the same samples, in y's order.

    Args:
        y: column name -> (samples,) array.
        x: the same.
        chosen: rows of y and rows of x that may be among them; all if left out.

    Returns:
        Indices into y and into x, equally long.

    Raises:
        KeyError: a column that tells samples apart is not there.
    """
    y_chosen, x_chosen = (None, None) if chosen is None else chosen
    place = {identity: row for row, identity in identities(x, x_chosen)}
    pairs = [(row, place[one]) for row, one in identities(y, y_chosen) if one in place]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def identities(
    table: Mapping[str, npt.NDArray[Any]], rows: Ints | None = None
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Rows of a sample table, and which sample each is; all if none are named.

    Raises:
        KeyError: a column that tells samples apart is not there.
    """
    columns = [table[name] for name in _IDENTITY]
    if rows is None:
        rows = np.arange(len(columns[0]))
    return zip(
        rows.tolist(), zip(*(column[rows].tolist() for column in columns), strict=True), strict=True
    )
