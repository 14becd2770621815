"""A sample's position is the last token of its entity, whatever the tokenizer does."""

import numpy as np
import pytest

from engramcka.data import (
    Corpus,
    Document,
    LeftOut,
    document_positions,
    draw_samples,
    place_samples,
    spread_sequences,
    token_sequences,
    train_tokenizer,
)
from engramcka.errors import DataError

LINE = "value = os.path.join(näme, 'Größe') + sys.exit(x)  # uses re.compile\n"
TEXT = "".join(f"{LINE}n{index} = {index}\n" for index in range(60))
DOCUMENTS = [Document("a.py", TEXT)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(DOCUMENTS, 330)


def test_the_position_ends_the_entity(tokenizer) -> None:
    corpus = Corpus((), tuple(DOCUMENTS))
    samples = draw_samples(DOCUMENTS, count=100, passage_length=200, seed=0)
    passages = place_samples(tokenizer, corpus, samples, 512)
    assert passages.left_out == LeftOut()
    for row in range(len(passages.samples)):
        ids = passages.ids[passages.passage[row]]
        start = int(passages.samples.passage_start[row])
        before = tokenizer.decode(ids[: passages.last[row] + 1])
        assert before == TEXT[start : int(passages.samples.end[row])]


def test_entities_that_are_cut_off_are_skipped_and_counted(tokenizer) -> None:
    corpus = Corpus((), tuple(DOCUMENTS))
    samples = draw_samples(DOCUMENTS, count=100, passage_length=200, seed=0)
    whole = place_samples(tokenizer, corpus, samples, 512)
    cut = place_samples(tokenizer, corpus, samples, 30)
    kept = whole.last < 30
    assert cut.left_out == LeftOut(cut_off=int((~kept).sum()))
    assert cut.left_out.total > 0
    assert (cut.samples.start == samples.start[kept]).all()
    assert (cut.last == whole.last[kept]).all()


def test_a_vocabulary_the_text_cannot_fill_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.vocabulary: found 5000"):
        train_tokenizer([Document("a", "x = 1\n")], 5000)


def test_sequences_are_the_documents_end_to_end(tokenizer) -> None:
    documents = [Document(str(n), f"x{n} = {n}\n" * 9) for n in range(5)]
    one = token_sequences(tokenizer, documents, length=16, count=8, seed=1)
    assert one.shape == (8, 16)
    assert (one == token_sequences(tokenizer, documents, length=16, count=8, seed=1)).all()
    order = np.random.default_rng(1).permutation(5)
    text = tokenizer.eos_token.join(documents[n].text for n in order)
    assert text.startswith(tokenizer.decode(one.ravel()))
    more = token_sequences(tokenizer, documents, length=16, count=100, seed=1)
    assert (more.ravel()[: one.size] == one.ravel()).all()


@pytest.mark.parametrize(
    ("lines", "length", "count", "documents"),
    [(40, 16, 8, 8), (40, 16, 100, 20), (1, 16, 8, 8), (40, 16, 1000, 20)],
)
def test_validation_text_is_from_as_many_documents_as_there_can_be(
    tokenizer, lines: int, length: int, count: int, documents: int
) -> None:
    texts = [f"x{n} = {n}\n" * (lines if n else 3 * lines) for n in range(20)]
    given = [Document(str(n), text) for n, text in enumerate(texts)]
    ids, owners = spread_sequences(tokenizer, given, length=length, count=count, seed=1)
    assert ids.shape == (count, length)
    assert len(set(owners.tolist())) >= documents
    if len(set(owners.tolist())) == count:
        assert lines == 1 or np.bincount(owners).max() == 1
    for row, owner in zip(ids, owners, strict=True):
        stretches = tokenizer.decode(row).split(tokenizer.eos_token)
        assert any(stretch and stretch in texts[owner] for stretch in stretches)
    again = spread_sequences(tokenizer, given, length=length, count=count, seed=1)
    np.testing.assert_array_equal(again[0], ids)
    np.testing.assert_array_equal(again[1], owners)


def test_validation_text_is_repeated_only_where_there_is_no_more(tokenizer) -> None:
    documents = [Document("long", LINE * 40), *(Document(str(n), "x = 1\n") for n in range(3))]
    tokens = sum(len(tokenizer(d.text)["input_ids"]) + 1 for d in documents)
    ids, owners = spread_sequences(tokenizer, documents, length=8, count=tokens // 8, seed=0)
    stream = ids.ravel()[: tokens - tokens % 8]
    assert (stream == tokenizer.eos_token_id).sum() >= 3
    assert (owners == 0).sum() >= len(owners) - 8
    more, _ = spread_sequences(tokenizer, documents, length=8, count=2 * (tokens // 8), seed=0)
    np.testing.assert_array_equal(more.ravel()[tokens : tokens + 8], more.ravel()[:8])


def test_positions_begin_again_after_the_end_of_a_document() -> None:
    ids = np.array([[5, 2, 7, 8, 9, 2, 2, 4], [2, 5, 6, 7, 8, 9, 5, 2]])
    found = document_positions(ids, 2)
    assert found.tolist() == [[0, 1, 0, 1, 2, 3, 0, 0], [0, 0, 1, 2, 3, 4, 5, 6]]
    assert found.dtype == np.int64
