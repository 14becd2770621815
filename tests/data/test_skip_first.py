"""The first tokens of a passage are no samples and no part of a mean, by each tokenizer's count."""

from __future__ import annotations

import numpy as np
import pytest
from small_sources import SENTENCES

from engramcka.data import (
    Corpus,
    Document,
    Entity,
    LeftOut,
    draw_samples,
    place_samples,
    train_tokenizer,
)
from engramcka.errors import DataError

TEXT = "\n".join(words for words, _ in SENTENCES)
DOCUMENTS = tuple(Document(str(n), f"{TEXT}\n{n} {TEXT}\n", ()) for n in range(5))


@pytest.fixture(scope="module", params=["plain", "bos"])
def tokenizer(request: pytest.FixtureRequest):
    """One that begins with the text, and one that puts a token before it."""
    from tokenizers.processors import TemplateProcessing

    made = train_tokenizer([Document("a", TEXT * 9)], 320)
    if request.param == "bos":
        bos = made.bos_token
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, made.bos_token_id)]
        )
        assert made("Paris")["input_ids"][0] == made.bos_token_id
    return made


def placed(tokenizer, positions: str, skip_first: int, count: int | None = 40, cap=None):
    samples = draw_samples(
        DOCUMENTS,
        count=count or 40,
        passage_length=60,
        seed=1,
        positions=positions,
        per_document=cap,
        all_passages=skip_first > 0,
    )
    corpus = Corpus((), DOCUMENTS)
    return place_samples(
        tokenizer,
        corpus,
        samples,
        512,
        positions=positions,
        count=count,
        seed=1,
        per_document=cap,
        skip_first=skip_first,
    )


def before(tokenizer, passages) -> np.ndarray:
    """Tokens of the text before each sample's last one."""
    specials = [int((ids == tokenizer.bos_token_id).sum()) for ids in passages.ids]
    return passages.last - np.array(specials)[passages.passage]


@pytest.mark.parametrize("positions", ["all", "random"])
def test_no_sample_is_among_the_first_tokens(tokenizer, positions: str) -> None:
    whole = placed(tokenizer, positions, 0, count=None if positions == "all" else 40)
    assert before(tokenizer, whole).min() == 0
    for skip_first in (1, 4):
        late = before(tokenizer, whole) >= skip_first
        left = placed(tokenizer, positions, skip_first, count=None if positions == "all" else 40)
        assert before(tokenizer, left).min() >= skip_first
        assert left.left_out == LeftOut(first_tokens=int((~late).sum()))
        assert left.samples.start.tolist() == whole.samples.start[late].tolist()
        np.testing.assert_array_equal(left.last, whole.last[late])


def test_of_all_tokens_as_many_are_found_as_asked_for(tokenizer) -> None:
    for cap in (None, 20):
        passages = placed(tokenizer, "all", 3, count=90, cap=cap)
        assert len(passages.samples) == 90
        assert before(tokenizer, passages).min() == 3
    told = "the text holds [0-9]+ tokens behind the first 3 of a passage; allowed: at most that"
    with pytest.raises(DataError, match=told):
        placed(tokenizer, "all", 3, count=9999)


@pytest.mark.parametrize("positions", ["mean", "entity-last", "last"])
def test_what_stands_at_the_start_is_cut_to_what_is_behind_or_left_out(
    tokenizer, positions: str
) -> None:
    text = "Grace Kelly lived"
    entities = (Entity(0, 11, "person", "person"), Entity(12, 17, "other", "other"))
    documents = (Document("a", text, entities),)
    count = 1 if positions == "last" else 2
    samples = draw_samples(documents, count=count, passage_length=None, seed=0, positions=positions)
    corpus = Corpus((), documents)

    def skipping(skip_first: int):
        return place_samples(
            tokenizer, corpus, samples, 512, positions=positions, skip_first=skip_first
        )

    whole = skipping(0)
    length = len(whole.ids[0])
    special = int((whole.ids[0] == tokenizer.bos_token_id).sum())
    for skip_first in range(1, length + 2):
        left = skipping(skip_first)
        kept = whole.last - special >= skip_first
        assert left.left_out == LeftOut(first_tokens=int((~kept).sum()))
        np.testing.assert_array_equal(left.last, whole.last[kept])
        firsts = np.maximum(whole.first[kept], special + skip_first)
        np.testing.assert_array_equal(left.first, firsts)


@pytest.mark.parametrize("positions", ["all", "random", "last"])
def test_each_sample_names_its_token_and_its_place(tokenizer, positions: str) -> None:
    passages = placed(tokenizer, positions, 0, count=20)
    columns = passages.columns()
    for row, (token, index) in enumerate(
        zip(columns["token"].tolist(), columns["token_index"].tolist(), strict=True)
    ):
        ids = passages.ids[passages.passage[row]]
        assert tokenizer.decode(ids[index : index + 1]) == token
    others = {"token", "token_index"}
    assert columns.keys() - others == passages.samples.columns().keys()
