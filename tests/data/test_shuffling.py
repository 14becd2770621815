"""Passages with their words in another order: nothing is lost, and samples stay in their places."""

import re
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engramcka.data.shuffling import shuffle_words

TEXTS = st.lists(
    st.tuples(st.text("abÄ漢.,", min_size=1, max_size=5), st.sampled_from([" ", "\n", "\t "])),
    min_size=1, max_size=20,
)  # fmt: skip


@given(TEXTS, st.data())
def test_words_and_spaces_are_kept_and_spans_stay(parts, data):
    text = "".join(word + space for word, space in parts)
    ends = st.integers(0, len(text) - 1)
    spans = [sorted(pair) for pair in data.draw(st.lists(st.tuples(ends, ends), max_size=4))]
    spans = [(first, last + 1) for first, last in spans]
    found = shuffle_words(text, spans, seed=3, document="d", start=7)
    assert Counter(found.text) == Counter(text)
    assert Counter(map(len, found.text.split())) == Counter(map(len, text.split())) or "漢" in text
    assert re.findall(r"\s+", found.text) == re.findall(r"\s+", text)
    assert set(found.moved) == set(spans)
    words, now = (
        [match.span() for match in re.finditer(r"\S+", one)] for one in (text, found.text)
    )
    for (first, last), (begin, end) in found.moved.items():
        assert found.text[begin:end] == text[first:last]
        before, after = (sum(word[1] <= at for word in one) for one, at in
                         ((words, first), (now, begin)))  # fmt: skip
        assert before == after  # as many words before it


def test_the_order_is_a_function_of_seed_document_and_place_and_every_order_comes():
    text = "one two three here"

    def order(seed=0, document="d", start=0):
        return shuffle_words(text, [(14, 18)], seed=seed, document=document, start=start).text

    assert order() == order()
    assert order().endswith(" here")
    assert len({order(document=str(name)) for name in range(99)}) == 6
    counts = Counter(order(seed=seed) for seed in range(6_000))
    assert len(counts) == 6
    assert max(counts.values()) < 1_150  # 1,000 expected, 29 the standard deviation
    assert order(start=5) != order(start=0) or order(start=6) != order(start=0)


def test_words_of_scripts_without_spaces_are_characters_with_their_marks():
    text = "東京は日本の首都です。ภาษาไทยก็เช่นกัน"
    found = shuffle_words(text, [(3, 5)], seed=0, document="d", start=0)
    assert found.text != text
    assert Counter(found.text) == Counter(text)
    begin, end = found.moved[3, 5]
    assert found.text[begin:end] == "日本"
    for mark in re.finditer("[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]", found.text):
        assert found.text[mark.start() - 1 : mark.end()] in text
    korean = shuffle_words("한국어 문장은 띄어 쓴다", [], seed=1, document="d", start=0)
    assert sorted(korean.text.split()) == sorted(["한국어", "문장은", "띄어", "쓴다"])


def test_a_passage_without_another_word_stays_as_it_is():
    found = shuffle_words(" os.path ", [(1, 8)], seed=0, document="d", start=0)
    assert (found.text, found.moved) == (" os.path ", {(1, 8): (1, 8)})
    assert np.array_equal(shuffle_words("", [], seed=0, document="d", start=0).text, "")
