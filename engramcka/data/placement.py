"""From samples, which are spans of characters, to the tokens that a model reads them as."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.corpora import Corpus
from engramcka.data.documents import DataKeyError
from engramcka.data.samples import SampleRow, Samples, keyed_random, too_few
from engramcka.data.shuffling import shuffle_words

Ints = npt.NDArray[np.int64]

_FEW_SAME = 0.1  # share of passages that may stay as they are without a word
_AT_ONCE = 1024  # passages tokenised together: bounds the memory that offsets take as lists


@dataclass(frozen=True)
class LeftOut:
    """How many samples are not stored, by reason; each is counted once."""

    cut_off: int = 0  # after the last of ``max_length`` tokens
    no_token: int = 0  # in no token
    first_tokens: int = 0  # among the first ``skip_first`` tokens of their passage
    repeated: int = 0  # in the tokens of another sample

    @property
    def total(self) -> int:
        """Candidates that were left out, for any reason."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class Passages:
    """Token ids of the passages that samples stand in, and where in them each sample is."""

    ids: tuple[Ints, ...]  # a passage each, (tokens,)
    passage: Ints  # (samples,) index into ids
    first: Ints  # (samples,) first token of the sample within its passage
    last: Ints  # (samples,) its last token; the same one where it is a point
    samples: Samples  # the samples that could be placed, in the order given
    left_out: LeftOut = LeftOut()
    token: npt.NDArray[np.str_] | None = None  # (samples,) the characters of each last token
    notes: tuple[str, ...] = ()  # what whoever reads results of them should know, a sentence each

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Column name -> (samples,) array: the samples' own, and what they are for this model.

        ``token_index`` is the place of a sample's last token in its passage, special tokens
        counted: 0 is the first that the model reads.
        """
        token = {} if self.token is None else {"token": self.token}
        return {**self.samples.columns(), **token, "token_index": self.last}


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
        before = np.flatnonzero(self._full & (self.spans[:, 1] <= character))
        if not nearest or not len(before) or self.is_cut_off(character):
            return -1
        return int(before[-1])

    def is_cut_off(self, character: int) -> bool:
        """Whether a character is behind the last token of a passage that was cut."""
        return self.cut and character >= int(self.spans[:, 1].max(initial=0))

    def begin(self, skip_first: int) -> int:
        """Index of the first token after ``skip_first`` with characters; the count if too few."""
        if not skip_first:
            return 0
        full = np.flatnonzero(self._full)
        return int(full[skip_first]) if skip_first < len(full) else len(self.ids)

    def distinct(self) -> Ints:
        """Indices of the tokens that stand for characters; of those that end alike, the last."""
        ends = dict(zip(self.spans[:, 1].tolist(), range(len(self.ids)), strict=True))
        tokens = np.array(list(ends.values()), dtype=np.int64)
        return tokens[self._full[tokens]]

    @property
    def _full(self) -> npt.NDArray[np.bool_]:
        """(tokens,) whether each stands for characters: special tokens do not."""
        return np.asarray(self.spans[:, 1] > self.spans[:, 0])

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
    seed: int = 0,
    per_document: int | None = None,
    skip_first: int = 0,
    shuffled: bool = False,
) -> Passages:
    """Tokenise every passage once and find the tokens of each sample.

    Positions "mean" takes all tokens of the sample, first to last. Positions "all" makes passages
    into tokens, in order, until there are ``count``: a sample then is the last character of a
    token, so that tokenizers share the places where both end a token. Where a passage may give
    only so many (`Samples.most`), they are drawn by `keyed_random` numbers of the seed and the
    characters, so that tokenizers draw the same ones of the places that they share. All others
    take the token of the sample's last character; "last" and "random" the one before it if no
    token covers it.

    Args:
        tokenizer: a fast Hugging Face tokenizer (one that gives character offsets).
        corpus: holds the validation documents that the samples name.
        samples: what to place.
        max_length: tokens a passage; what comes after is cut off.
        positions: a value of ``data.positions``.
        count: samples wanted of positions "all"; None for all there are.
        seed: of the draw of positions "all".
        per_document: the cap that the samples were drawn under, for messages.
        skip_first: tokens at the start of every passage that are no sample, nor part of a mean;
            those that stand for characters are counted, so not a BOS before them.
        shuffled: the words of each passage in another order (`engramcka.data.shuffling`), which
            positions "all" have not. Samples are known by where they stand in the document.

    Raises:
        DataKeyError: positions "all" gives fewer than ``count``.
    """
    if positions == "all":
        found = _all_tokens(tokenizer, corpus, samples, max_length, count, seed, skip_first)
        if count is not None and len(found.samples) < count:
            what = f"tokens behind the first {skip_first} of a passage" if skip_first else "tokens"
            raise DataKeyError("samples", *too_few(count, len(found.samples), what, per_document))
        return found
    keys = list(zip(samples.document.tolist(), samples.passage_start.tolist(), strict=True))
    rows = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))  # key -> first row
    order = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    texts = [_text(corpus, samples, rows[key]) for key in order]
    passage = np.array([order[key] for key in keys], dtype=np.int64)
    places = np.column_stack([samples.start, samples.end]) - samples.passage_start[:, None]
    notes: tuple[str, ...] = ()
    if shuffled:
        before = texts
        texts, places = _shuffle(texts, places, passage, list(order), seed)
        notes = _changed(before, texts)
    encoded = list(_encode(tokenizer, texts, max_length))
    spans, cut_off = _spans(encoded, passage, places, positions)
    found_token = (spans >= 0).all(axis=1)
    begin = np.array([one.begin(skip_first) for one in encoded], dtype=np.int64)[passage]
    placed = found_token & (spans[:, 1] >= begin)
    spans[placed, 0] = np.maximum(spans[placed, 0], begin[placed])
    kept = placed & _is_new(np.column_stack([passage, spans]), placed)
    tokens = [
        texts[index][slice(*encoded[index].spans[last].tolist())]
        for index, last in zip(passage[kept].tolist(), spans[kept, 1].tolist(), strict=True)
    ]
    return Passages(
        ids=tuple(one.ids for one in encoded),
        passage=passage[kept],
        first=spans[kept, 0],
        last=spans[kept, 1],
        samples=samples.take(kept),
        left_out=LeftOut(
            cut_off=int((cut_off & ~found_token).sum()),
            no_token=int((~cut_off & ~found_token).sum()),
            first_tokens=int((found_token & ~placed).sum()),
            repeated=int((placed & ~kept).sum()),
        ),
        token=np.array(tokens, dtype=str),
        notes=notes,
    )


def _changed(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """What to say of passages that shuffling leaves as they are, if they are many.

    Raises:
        DataKeyError: it leaves all of them.
    """
    same = sum(one == other for one, other in zip(before, after, strict=True))
    if same == len(before):
        raise DataKeyError(
            "passage_length",
            "text = 'shuffled' leaves all passages as they are: none has two words but its samples",
            "give longer passages",
        )
    if same <= _FEW_SAME * len(before):
        return ()
    return (f"in {same:,} of {len(before):,} passages there is nothing to shuffle",)


def _shuffle(
    texts: list[str], places: Ints, passage: Ints, keys: Sequence[tuple[str, int]], seed: int
) -> tuple[list[str], Ints]:
    """Passages with their words in another order, and (samples, 2) where each sample is then."""
    found, moved = [], places.copy()
    by_passage = np.split(np.argsort(passage, kind="stable"), np.cumsum(np.bincount(passage))[:-1])
    for text, rows, (document, start) in zip(texts, by_passage, keys, strict=True):
        stay = [(int(first), int(last)) for first, last in places[rows]]
        one = shuffle_words(text, stay, seed=seed, document=document, start=start)
        found.append(one.text)
        moved[rows] = [one.moved[span] for span in stay]
    return found, moved


def _spans(
    encoded: Sequence[_Encoded], passage: Ints, places: Ints, positions: str
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(samples, 2) first and last token of each, -1 where none; and whether it was cut off.

    Args:
        encoded: the passages.
        passage: (samples,) which of them each sample is in.
        places: (samples, 2) its first character within the passage and one past its last.
        positions: a value of ``data.positions``.
    """
    spans = np.empty((len(places), 2), dtype=np.int64)
    cut_off = np.empty(len(places), dtype=bool)
    for row, (index, (start, end)) in enumerate(
        zip(passage.tolist(), places.tolist(), strict=True)
    ):
        spans[row] = _tokens(encoded[index], start, end, positions)
        cut_off[row] = encoded[index].is_cut_off(end - 1)
    return spans, cut_off


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
    tokenizer: Any,
    corpus: Corpus,
    samples: Samples,
    max_length: int,
    count: int | None,
    seed: int,
    skip_first: int,
) -> Passages:
    """The first ``count`` tokens of the passages, in order; fewer if there are not so many."""
    texts = [_text(corpus, samples, row) for row in range(len(samples))]
    ids: list[Ints] = []
    rows: list[SampleRow] = []
    where: list[tuple[int, int]] = []
    passed_over = 0
    for index, encoded in enumerate(_encode(tokenizer, texts, max_length)):
        ids.append(encoded.ids)
        document, first = str(samples.document[index]), int(samples.passage_start[index])
        stop = int(samples.passage_end[index])
        tokens = encoded.distinct()
        begin = encoded.begin(skip_first)
        passed_over += int((tokens < begin).sum())
        tokens = tokens[tokens >= begin]
        if samples.most is not None:
            ends = first + encoded.spans[tokens, 1]
            places = np.column_stack([ends - 1, ends])
            order = keyed_random(seed, "token", document, places).argsort()
            tokens = tokens[np.sort(order[: samples.most[index]])]
        for token in tokens.tolist():
            start, end = encoded.spans[token].tolist()
            text = texts[index][start:end]
            rows.append(
                SampleRow(document, first + end - 1, first + end, first, stop, text, "", "")
            )
            where.append((index, token))
        if count is not None and len(rows) >= count:
            break
    passage, token = np.array(where[:count], dtype=np.int64).reshape(-1, 2).T
    table = Samples.of(rows[:count]) if rows else samples.take(np.arange(0))
    left_out = LeftOut(first_tokens=passed_over)
    return Passages(tuple(ids), passage, token, token, table, left_out, table.entity)


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
