"""Samples stand at the tokens that their positions say, the same ones whatever the tokenizer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from small_sources import SENTENCES

from engramcka.data import (
    Corpus,
    Document,
    Entity,
    LeftOut,
    common_rows,
    draw_samples,
    place_samples,
    train_tokenizer,
)
from engramcka.errors import DataError

TEXT = "\n".join(words for words, _ in SENTENCES)
DOCUMENTS = tuple(Document(str(n), f"{n} {TEXT}\n  ", ()) for n in range(6))
CORPUS = Corpus((), DOCUMENTS)


@pytest.fixture(scope="module")
def tokenizers():
    """Bytes and a few merges, and whole words."""
    return [train_tokenizer([Document("a", TEXT * 9)], size) for size in (270, 330)]


def placed(tokenizer, positions: str, count: int = 40, max_length: int = 512):
    samples = draw_samples(DOCUMENTS, count=count, passage_length=60, seed=1, positions=positions)
    return place_samples(tokenizer, CORPUS, samples, max_length, positions=positions, count=count)


def read_so_far(tokenizer, passages, row: int) -> str:
    ids = passages.ids[passages.passage[row]]
    return tokenizer.decode(ids[: passages.last[row] + 1])


@pytest.mark.parametrize("positions", ["last", "random"])
def test_a_point_is_the_token_of_its_last_character(tokenizers, positions: str) -> None:
    count = 24 if positions == "last" else 60
    for tokenizer in tokenizers:
        passages = placed(tokenizer, positions, count)
        samples = passages.samples
        assert (passages.first == passages.last).all()
        assert passages.left_out == LeftOut()
        for row in range(len(samples)):
            text = CORPUS.validation_text(samples.document[row])
            wanted = text[samples.passage_start[row] : samples.end[row]]
            assert read_so_far(tokenizer, passages, row).startswith(wanted)
            if positions == "last":
                rest = text[samples.end[row] : samples.passage_end[row]]
                assert not rest.strip()


def test_all_takes_every_token_once_and_tokenizers_share_the_ends(tokenizers) -> None:
    fine, coarse = (placed(tokenizer, "all", 150) for tokenizer in tokenizers)
    for tokenizer, passages in zip(tokenizers, (fine, coarse), strict=True):
        assert len(passages.samples) == 150
        first = passages.last[passages.passage == 0]
        text = tokenizer.decode(passages.ids[0])
        distinct = {len(tokenizer.decode(passages.ids[0][: n + 1])) for n in first.tolist()}
        assert len(distinct) == len(first) <= len(passages.ids[0])
        assert (
            read_so_far(tokenizer, passages, int(np.flatnonzero(passages.passage == 0)[-1])) == text
        )
    y_rows, x_rows = common_rows(fine.samples.columns(), coarse.samples.columns())
    assert 50 < len(y_rows) < 150
    for y, x in zip(y_rows.tolist(), x_rows.tolist(), strict=True):
        assert read_so_far(tokenizers[0], fine, y) == read_so_far(tokenizers[1], coarse, x)
    with pytest.raises(DataError, match=r"data\.samples: found 100000, the text holds \d+ tokens"):
        placed(tokenizers[0], "all", 100_000)


def test_mean_spans_the_whole_entity(tokenizers) -> None:
    text = "then Grace Kelly left"
    documents = (Document("a", text, (Entity(5, 16, "person-actor", "person"),)),)
    samples = draw_samples(documents, count=1, passage_length=None, seed=0, positions="mean")
    assert samples.type.tolist() == ["person-actor"]
    assert samples.kind.tolist() == ["person"]
    for tokenizer in tokenizers:
        corpus = Corpus((), documents)
        passages = place_samples(tokenizer, corpus, samples, 512, positions="mean")
        span = passages.ids[0][passages.first[0] : passages.last[0] + 1]
        assert tokenizer.decode(span).strip() == "Grace Kelly"
        cut = place_samples(tokenizer, corpus, samples, passages.last[0], positions="mean")
        assert (len(cut.samples), cut.left_out) == (0, LeftOut(cut_off=1))


class Spaced:
    """A tokenizer that has no tokens for spaces, and special tokens around the text."""

    def __call__(self, texts, max_length, **options):
        import re

        rows = [[(m.start(), m.end()) for m in re.finditer(r"\S+", text)] for text in texts]
        kept = [row[: max_length - 2] for row in rows]
        offsets = [[(0, 0), *row, (0, 0)] for row in kept]
        found = {"input_ids": [[7] * len(row) for row in offsets], "offset_mapping": offsets}
        encodings = [SimpleNamespace(overflowing=row[max_length - 2 :]) for row in rows]
        result = type("Encoded", (dict,), {"encodings": encodings})
        return result(found)


def test_where_no_token_covers_the_character_the_one_before_it_is_taken() -> None:
    documents = (Document("a", "one two... three", ()),)
    corpus = Corpus((), documents)
    samples = draw_samples(documents, count=4, passage_length=None, seed=0, positions="random")
    assert samples.entity.tolist() == ["one", "two", "...", "three"]
    passages = place_samples(Spaced(), corpus, samples, 9, positions="random")
    assert passages.last.tolist() == [1, 2, 3]
    assert passages.left_out == LeftOut(repeated=1)  # "two" and "..." are in one token
    samples = samples.take(np.array([0, 3]))
    samples.start[1], samples.end[1] = 10, 11  # the space before "three"
    assert place_samples(Spaced(), corpus, samples, 9, positions="last").last.tolist() == [1, 2]
    strict = place_samples(Spaced(), corpus, samples, 9)
    assert (strict.last.tolist(), strict.left_out) == ([1], LeftOut(no_token=1))
    cut = place_samples(Spaced(), corpus, samples, 4, positions="last")  # "three" is cut off
    assert (cut.last.tolist(), cut.left_out) == ([1], LeftOut(cut_off=1))


def test_random_words_are_drawn_once_each_by_their_characters() -> None:
    samples = draw_samples(DOCUMENTS, count=30, passage_length=60, seed=1, positions="random")
    assert (
        len({(d, s) for d, s in zip(samples.document, samples.start.tolist(), strict=True)}) == 30
    )
    for row in range(30):
        text = CORPUS.validation_text(samples.document[row])
        assert text[samples.start[row] : samples.end[row]] == samples.entity[row]
    again = draw_samples(DOCUMENTS, count=30, passage_length=60, seed=1, positions="random")
    assert (again.start == samples.start).all()
    with pytest.raises(DataError, match="the text holds 0 entities"):
        draw_samples(DOCUMENTS, count=5, passage_length=60, seed=0)
