"""Samples, which are spans of characters, to the tokens that a model reads them as.

Takes tokenizers as arguments and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.candidates import Row
from engramcka.data.corpora import Corpus
from engramcka.data.documents import DataKeyError
from engramcka.data.samples import Samples

Ints = npt.NDArray[np.int64]

_AT_ONCE = 1024  # passages tokenised together: bounds the memory that offsets take as lists


@dataclass(frozen=True)
class Passages:
    """Token ids of the passages that samples stand in, and where in them each sample is."""

    ids: tuple[Ints, ...]  # a passage each, (tokens,)
    passage: Ints  # (samples,) index into ids
    first: Ints  # (samples,) first token of the sample within its passage
    last: Ints  # (samples,) its last token; the same one where it is a point
    samples: Samples  # the samples that could be placed, in the order given
    skipped: int  # samples that could not: cut off, or in no token
    repeated: int = 0  # samples left out because another one has their tokens

    @property
    def is_point(self) -> bool:
        """Whether every sample is a single token."""
        return bool((self.first == self.last).all())


@dataclass(frozen=True)
class _Encoded:
    """A passage as tokens."""

    ids: Ints  # (tokens,)
    spans: Ints  # (tokens, 2) characters of each; empty for special tokens
    cut: bool  # whether there was more text than ``max_length`` tokens

    def token_of(self, character: int, *, nearest: bool) -> int:
        """Index of the last token that covers a character, or -1.

        Args:
            character: within the passage.
            nearest: where none covers it (a space, say), take the last one that ends before.
        """
        covering = np.flatnonzero((self.spans[:, 0] <= character) & (character < self.spans[:, 1]))
        if len(covering):
            return int(covering[-1])
        full = self.spans[:, 1] > self.spans[:, 0]
        before = np.flatnonzero(full & (self.spans[:, 1] <= character))
        if not nearest or not len(before) or (self.cut and before[-1] == np.flatnonzero(full)[-1]):
            return -1
        return int(before[-1])

    def first_of(self, character: int) -> int:
        """Index of the first token that covers a character, or -1."""
        covering = np.flatnonzero((self.spans[:, 0] <= character) & (character < self.spans[:, 1]))
        return int(covering[0]) if len(covering) else -1


def place_samples(
    tokenizer: Any,
    corpus: Corpus,
    samples: Samples,
    max_length: int,
    *,
    positions: str = "entity-last",
    count: int | None = None,
) -> Passages:
    """Tokenise every passage once and find the tokens of each sample.

    Positions "mean" takes all tokens of the sample, first to last. Positions "all" makes passages
    into tokens, in order, until there are ``count``: a sample then is the last character of a
    token, so that tokenizers share the places where both end a token. All others take the token of
    the sample's last character; "last" and "random" the one before it if no token covers it.

    Args:
        tokenizer: a fast Hugging Face tokenizer (one that gives character offsets).
        corpus: holds the validation documents that the samples name.
        samples: what to place.
        max_length: tokens a passage; what comes after is cut off.
        positions: a value of ``data.positions``.
        count: samples wanted of positions "all"; None for all there are.

    Raises:
        DataKeyError: positions "all" gives fewer than ``count``.
    """
    if positions == "all":
        return _all_tokens(tokenizer, corpus, samples, max_length, count)
    keys = list(zip(samples.document.tolist(), samples.passage_start.tolist(), strict=True))
    rows = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))  # key -> first row
    order = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    texts = [_text(corpus, samples, rows[key]) for key in order]
    encoded = list(_encode(tokenizer, texts, max_length))
    passage = np.array([order[key] for key in keys], dtype=np.int64)
    spans = np.array(
        [
            _tokens(encoded[index], start, end, positions)
            for index, start, end in zip(
                passage.tolist(),
                (samples.start - samples.passage_start).tolist(),
                (samples.end - samples.passage_start).tolist(),
                strict=True,
            )
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    placed = (spans >= 0).all(axis=1)
    kept = placed & _is_new(np.column_stack([passage, spans]), placed)
    return Passages(
        ids=tuple(one.ids for one in encoded),
        passage=passage[kept],
        first=spans[kept, 0],
        last=spans[kept, 1],
        samples=samples.take(kept),
        skipped=int((~placed).sum()),
        repeated=int((placed & ~kept).sum()),
    )


def _tokens(encoded: _Encoded, start: int, end: int, positions: str) -> tuple[int, int]:
    """First and last token of the characters from ``start`` to before ``end``; -1 where none."""
    last = encoded.token_of(end - 1, nearest=positions in ("last", "random"))
    if positions != "mean" or last < 0:
        return last, last
    return encoded.first_of(start), last


def _is_new(keys: Ints, among: Any) -> npt.NDArray[np.bool_]:
    """Mask of rows that are the first of those marked with their key."""
    new = np.zeros(len(keys), dtype=bool)
    rows = np.flatnonzero(among)
    if len(rows):
        new[rows[np.unique(keys[rows], axis=0, return_index=True)[1]]] = True
    return new


def _all_tokens(
    tokenizer: Any, corpus: Corpus, samples: Samples, max_length: int, count: int | None
) -> Passages:
    texts = [_text(corpus, samples, row) for row in range(len(samples))]
    ids: list[Ints] = []
    rows: list[Row] = []
    where: list[tuple[int, int]] = []
    for index, encoded in enumerate(_encode(tokenizer, texts, max_length)):
        ids.append(encoded.ids)
        ends = dict(zip(encoded.spans[:, 1].tolist(), range(len(encoded.ids)), strict=True))
        document, first = str(samples.document[index]), int(samples.passage_start[index])
        stop = int(samples.passage_end[index])
        for end, token in ends.items():  # of tokens that end alike, parts of a character, the last
            start = int(encoded.spans[token, 0])
            if start < end:
                text = texts[index][start:end]
                rows.append(Row(document, first + end - 1, first + end, first, stop, text, "", ""))
                where.append((index, token))
        if count is not None and len(rows) >= count:
            break
    if count is not None and len(rows) < count:
        raise DataKeyError(
            "samples",
            f"found {count}, the text holds {len(rows)} tokens",
            "allowed: at most that many",
        )
    passage, token = np.array(where[:count], dtype=np.int64).reshape(-1, 2).T
    table = Samples.of(rows[:count]) if rows else samples.take(np.arange(0))
    return Passages(tuple(ids), passage, token, token, table, skipped=0)


def _text(corpus: Corpus, samples: Samples, row: int) -> str:
    start, end = int(samples.passage_start[row]), int(samples.passage_end[row])
    return corpus.validation_text(str(samples.document[row]))[start:end]


def _encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> Iterator[_Encoded]:
    for start in range(0, len(texts), _AT_ONCE):
        found = tokenizer(
            list(texts[start : start + _AT_ONCE]),
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
        )
        for ids, offsets, encoding in zip(
            found["input_ids"], found["offset_mapping"], found.encodings, strict=True
        ):
            spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
            yield _Encoded(np.array(ids, dtype=np.int64), spans, bool(encoding.overflowing))
