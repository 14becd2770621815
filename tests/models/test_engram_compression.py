from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from engramcka.errors import ConfigError
from engramcka.models.engram import token_map


def word_level(words: list[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=words[0])


def test_folds_case_accents_width_and_white_space():
    words = ["[unk]", "cafe", "Café", "CAFE\u0301", " cafe ", "ﬁn", "fin", "a\t b", "A b", "tea"]
    ids, n_ids = token_map(word_level(words), len(words))
    assert ids.tolist() == [0, 1, 1, 1, 1, 2, 2, 3, 3, 4]
    assert n_ids == 5


def test_a_space_stays_a_space_and_is_no_empty_text():
    ids, _ = token_map(word_level(["[unk]", " ", "\n", "\t \n", "\u0301", "x"]), 6)
    assert ids.tolist() == [0, 1, 1, 1, 2, 3]


def test_broken_bytes_keep_ids_of_their_own(tokenizer):
    ids, n_ids = token_map(tokenizer, len(tokenizer))
    lone = tokenizer.convert_tokens_to_ids(["Ã", "Ð", "Î"])  # bytes that begin a longer character
    assert len({int(ids[i]) for i in lone}) == 3
    assert sorted(set(ids.tolist())) == list(range(n_ids))
    assert n_ids < len(tokenizer)


def test_upper_and_lower_case_share_addresses(tokenizer):
    ids, _ = token_map(tokenizer, len(tokenizer))
    one, two = (tokenizer(text)["input_ids"] for text in ("a b c", "A B C"))
    assert one != two
    assert ids[one].tolist() == ids[two].tolist()


def test_rows_past_the_tokenizer_and_no_compression(tokenizer):
    n = len(tokenizer)
    folded, n_folded = token_map(tokenizer, n)
    ids, n_ids = token_map(tokenizer, n + 3)
    assert torch.equal(ids[:n], folded)
    assert ids[n:].tolist() == [n_folded, n_folded + 1, n_folded + 2]
    assert n_ids == n_folded + 3
    plain, n_plain = token_map(tokenizer, n + 3, compression=False)
    assert plain.tolist() == list(range(n + 3))
    assert n_plain == n + 3


def test_refuses_a_tokenizer_that_does_not_fit(tokenizer):
    with pytest.raises(ConfigError, match="359 ids but the model's vocabulary only 100"):
        token_map(tokenizer, 100)


def test_refuses_a_slow_tokenizer():
    class Slow:
        def __len__(self):
            return 5

    with pytest.raises(ConfigError, match="Slow is not a fast tokenizer"):
        token_map(Slow(), 5)
