"""A sample's position is the last token of its entity, whatever the tokenizer does."""

import numpy as np
import pytest

from engramcka.data import (
    Corpus,
    Document,
    draw_samples,
    place_samples,
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
    assert passages.skipped == 0
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
    assert cut.skipped == int((~kept).sum()) > 0
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
