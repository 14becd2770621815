"""No document gives more samples than its cap, and the draw is uniform over what the cap leaves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from small_sources import SENTENCES

from engramcka.data import (
    Corpus,
    Document,
    Entity,
    Samples,
    common_rows,
    draw_samples,
    place_samples,
    train_tokenizer,
)
from engramcka.data.samples import keyed_random
from engramcka.errors import DataError

LINE = " ".join(words for words, _ in SENTENCES)
LINES = (40, 3, 25, 1, 12, 30)  # of each document
DOCUMENTS = tuple(
    Document(
        f"d{n}",
        f"{LINE}\n" * lines,
        tuple(
            Entity(start, start + 5, "person-actor", "person")
            for start in range(0, (len(LINE) + 1) * lines, len(LINE) + 1)
        ),
    )
    for n, lines in enumerate(LINES)
)
POSITIONS = ("entity-last", "mean", "last", "random", "all")


def draw(positions: str, count: int, cap: int | None = None, **options) -> Samples:
    options = {"passage_length": 200, "seed": 7, "documents": DOCUMENTS, **options}
    return draw_samples(positions=positions, count=count, per_document=cap, **options)


def identities(samples: Samples) -> set[tuple[str, int, int]]:
    columns = samples.columns()
    return set(zip(*(columns[key].tolist() for key in ("document", "start", "end")), strict=True))


@pytest.mark.parametrize("positions", POSITIONS[:4])
def test_the_cap_holds_and_every_sample_of_the_capped_pool_can_be_had(positions: str) -> None:
    # many words a line, and one entity or passage
    most = [min(lines * (99 if positions == "random" else 1), 10) for lines in LINES]
    pool = draw(positions, sum(most), 10)
    assert [Counter(pool.document.tolist())[f"d{n}"] for n in range(6)] == most
    assert pool.spread() == (6, 10)
    rows = list(zip(pool.document.tolist(), pool.start.tolist(), strict=True))
    assert rows == sorted(rows)
    what = {"last": "passages", "random": "words"}.get(positions, "entities")
    told = (
        rf"data\.samples: found {sum(most) + 1}, with at most 10 of a document "
        rf"\(data\.per_document\) the text holds {sum(most)} {what}; allowed: at most that many; "
        "or raise data.per_document, or give more documents"
    )
    with pytest.raises(DataError, match=told):
        draw(positions, sum(most) + 1, 10)


def test_a_smaller_draw_and_a_smaller_cap_are_parts_of_larger_ones() -> None:
    pool = identities(draw("random", 60, 10))
    assert identities(draw("random", 20, 10)) < identities(draw("random", 30, 10)) < pool
    assert identities(draw("random", 24, 4)) < pool
    # other documents, and shorter passages, leave a document's own pool as it is
    assert identities(draw("random", 20, 10, documents=DOCUMENTS[4:])) < pool
    assert identities(draw("last", 44, 10, passage_length=201)) == identities(draw("last", 44, 10))
    assert identities(draw("random", 20, 10, seed=8)) != identities(draw("random", 20, 10))


def test_the_draw_is_uniform_over_the_capped_pool() -> None:
    times, found = 400, Counter()
    for seed in range(times):
        found.update(identities(draw("last", 17, 10, seed=seed)))
    chance = [17 / 44 * min(10, lines) / lines for lines in LINES]
    for n, lines in enumerate(LINES):
        mine = np.array([count for (name, *_), count in found.items() if name == f"d{n}"])
        mine = np.concatenate([mine, np.zeros(lines - len(mine))])
        deviation = (times * chance[n] * (1 - chance[n])) ** 0.5
        assert mine.mean() == pytest.approx(times * chance[n], abs=4 * deviation / lines**0.5)
        assert np.abs(mine - times * chance[n]).max() < 4.5 * deviation


def test_without_a_cap_the_draw_is_the_one_of_older_runs() -> None:
    total = sum(LINES)
    chosen = np.sort(np.random.default_rng(7).choice(total, size=20, replace=False))
    places = [(f"d{n}", line) for n, lines in enumerate(LINES) for line in range(lines)]
    samples = draw("entity-last", 20)
    wanted = [places[number] for number in chosen.tolist()]
    assert samples.document.tolist() == [name for name, _ in wanted]
    assert (samples.start // (len(LINE) + 1)).tolist() == [line for _, line in wanted]


def test_lots_are_even_and_their_purposes_independent() -> None:
    places = np.column_stack([np.arange(4000), np.arange(4000) + 1])
    one, other = (keyed_random(1, purpose, "a", places) / 2**64 for purpose in ("pool", "draw"))
    for numbers in (one, other):
        assert len(set(numbers.tolist())) == 4000
        assert np.abs(np.sort(numbers) - np.arange(4000) / 4000).max() < 0.03
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.06
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.06
    assert (
        keyed_random(1, "pool", "a", places[100:200])
        == keyed_random(1, "pool", "a", places)[100:200]
    ).all()


@pytest.mark.parametrize("cap", [4, 40, 1000])
def test_of_all_tokens_a_document_gives_at_most_so_many_spread_over_it(cap: int) -> None:
    tokenizers = [train_tokenizer([Document("a", f"{LINE}\n" * 9)], size) for size in (300, 330)]
    corpus = Corpus((), DOCUMENTS)
    count = {4: 24, 40: 200, 1000: 900}[cap]
    samples = draw("all", count, cap)
    found = [
        place_samples(
            tokenizer, corpus, samples, 512, positions="all", count=count, seed=7, per_document=cap
        )
        for tokenizer in tokenizers
    ]
    for passages in found:
        table = passages.samples
        assert len(table) == count
        assert table.spread()[1] <= cap
        counts = Counter(zip(table.document.tolist(), table.passage_start.tolist(), strict=True))
        for (document, _), tokens in counts.items():
            lines = LINES[int(document[1:])]
            assert tokens <= -(-cap // min(cap, lines))
    y, x = (passages.samples.columns() for passages in found)
    ends = [set(zip(t["document"].tolist(), t["end"].tolist(), strict=True)) for t in (y, x)]
    both = len(common_rows(y, x)[0])
    assert both == len(ends[0] & ends[1])
    # As large a part of the draw is shared as of all the tokens' ends there are.
    whole = [tokenizer(LINE, return_offsets_mapping=True) for tokenizer in tokenizers]
    cuts = [{end for _, end in one["offset_mapping"]} for one in whole]
    share = len(cuts[0] & cuts[1]) / max(map(len, cuts))
    assert both / count > share - 0.2
    with pytest.raises(DataError, match=r"at most 1 of a document .* the text holds 6 tokens"):
        place_samples(
            tokenizers[0],
            corpus,
            draw("all", 7, 1),
            512,
            positions="all",
            count=7,
            seed=7,
            per_document=1,
        )
