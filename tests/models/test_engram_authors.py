"""``hashing = "authors"`` and the authors' eps, against a slow second writing of what they do."""

from __future__ import annotations

import copy

import naive_authors
import pytest
import torch
from families import tiny
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import graft
from engramcka.models.engram import token_map
from engramcka.models.engram.hashing import NgramHash, start_id
from engramcka.models.engram.module import Engram

AUTHORS = {"hashing": "authors", "gate_eps": 1.1920929e-7, "convolution_eps": 1e-5}


def addresses(engram: EngramConfig, tokenizer, ids):
    """Row numbers in each head's own table by block from 0, and what they should be."""
    size = len(tokenizer)
    folded, n_ids = token_map(tokenizer, size, hashing="authors")
    pad, n_ids = start_id(tokenizer, folded, n_ids, "authors")
    hashing = NgramHash(engram, folded, n_ids, pad)
    found = hashing(hashing.canonical(ids, None, None)) - hashing.offsets[:, None, None, :]
    canonical = naive_authors.canonical_ids(tokenizer)
    blocks = [layer - 1 for layer in engram.layers]
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 2
    expected = [
        [
            naive_authors.rows(
                line,
                block,
                canonical=canonical,
                pad_id=pad_id,
                sizes=list(engram.sizes.values()),
                heads=engram.heads,
                blocks=blocks,
                seed=engram.seed,
            )
            for line in ids.tolist()
        ]
        for block in sorted(blocks)
    ]
    return found, torch.tensor(expected)


@pytest.mark.parametrize(
    ("layers", "table_size", "orders"),
    [((2, 16), 1000, (2, 3)), ((16, 2), (1000, 1010), (2, 3)), ((1,), (40, 7, 40), (2, 3, 4))],
)
def test_rows_are_those_of_the_authors_code(tokenizer, layers, table_size, orders):
    engram = EngramConfig(
        layers=layers, table_size=table_size, orders=orders, heads=3, d_mem=36, **AUTHORS
    )
    ids = torch.randint(0, len(tokenizer), (2, 40), generator=torch.Generator().manual_seed(1))
    found, expected = addresses(engram, tokenizer, ids)
    assert torch.equal(found, expected)
    ours = NgramHash(engram.model_copy(update={"hashing": "own"}), *_own(tokenizer))
    rows = ours(ours.canonical(ids, None, None)) - ours.offsets[:, None, None, :]
    assert (rows == expected).float().mean() < 0.1


def _own(tokenizer):
    folded, n_ids = token_map(tokenizer, len(tokenizer))
    return folded, *reversed(start_id(tokenizer, folded, n_ids, "own"))


def test_tokens_that_are_no_text_and_those_of_no_text():
    """Their entry in the vocabulary is a key among the texts; no text at all is a key too."""
    words = ["[unk]", "\ufffd", "x\ufffd", "X\ufffd", "", "y"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[unk]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[unk]")
    ids, n_ids = token_map(tokenizer, 8, hashing="authors")
    assert ids.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert n_ids == 6  # rows of the embedding past the tokenizer are not counted
    assert naive_authors.canonical_ids(tokenizer) == ids[:6].tolist()
    assert token_map(tokenizer, 8)[1] == 8


def test_without_a_pad_token_the_end_of_text_stands_before_the_start(tokenizer):
    padless = copy.deepcopy(tokenizer)
    padless.pad_token = None
    engram = EngramConfig(layers=(2,), table_size=50, heads=2, d_mem=8, **AUTHORS)
    config = graft(tiny("llama", len(tokenizer)), engram, padless).config
    ids, n_ids = token_map(tokenizer, len(tokenizer), hashing="authors")
    assert config.n_canonical_ids == n_ids
    assert config.pad_canonical_id == ids[padless.eos_token_id]
    found, expected = addresses(engram, padless, torch.arange(20)[None])
    assert torch.equal(found, expected)
    padless.eos_token = None
    with pytest.raises(ConfigError, match="neither a pad nor an end-of-text token; set its pad"):
        graft(tiny("llama", len(tokenizer)), engram, padless)


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("table_std", [1.0, 0.002])
def test_the_module_is_the_authors(streams, table_std):
    """Also where rows are so small that eps decides the norms."""
    torch.manual_seed(streams)
    engram = EngramConfig(layers=(2,), table_size=31, heads=2, d_mem=24, **AUTHORS)
    module = Engram(engram, 16, streams, 200)
    for parameter in module.parameters():
        parameter.data.normal_()
    module.memory.weight.data.mul_(table_std)
    weights = {
        "key": torch.stack([key.weight for key in module.gate.keys]),
        "key_norm": module.gate.key_norm,
        "query_norm": module.gate.query_norm,
        "value": module.value.weight,
        "conv": module.convolution.weight,
        "conv_norm": module.convolution.norm,
    }
    hidden, rows = torch.randn(2, 30, streams, 16), torch.randint(0, 200, (2, 30, 4))
    entering = hidden if streams > 1 else hidden[:, :, 0]
    with torch.no_grad():
        expected = naive_authors.module(hidden, module.memory(rows), weights, dilation=3)
        found = module(entering, rows)[0].view_as(expected)
    largest = expected.abs().max()
    assert (found - expected).abs().max() < 1e-6 * largest
    other = Engram(EngramConfig(layers=(2,), table_size=31, heads=2, d_mem=24), 16, streams, 200)
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        moved = (other(entering, rows)[0].view_as(expected) - expected).abs().max()
    assert (moved > 1e-3 * largest) == (table_std < 0.1)


def test_every_key_of_the_authors_survives_saving(tokenizer, tmp_path):
    from transformers import AutoModelForCausalLM

    engram = EngramConfig(
        layers=(3, 1), table_size=(60, 70), heads=2, d_mem=16, documents="joined", **AUTHORS
    )
    model = graft(tiny("llama", len(tokenizer)), engram, tokenizer).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.modules == engram
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
