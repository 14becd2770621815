from __future__ import annotations

import pytest
import torch
from families import FAMILIES, tiny
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models import find_blocks, find_unembedding, graft

MANY_STREAMS = {"deepseek_v4", "engramcka_hyper_deepseek"}
OTHERS = {
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 1.5},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
}


def last_block_output(model, blocks, ids):
    seen = []
    handle = blocks.modules[-1].register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    handle.remove()
    hidden = seen[0]
    return (hidden[0] if isinstance(hidden, tuple) else hidden), logits


@pytest.mark.parametrize("family", FAMILIES)
def test_last_block_unembedded_is_the_models_output(family):
    model = tiny(family, 90)
    blocks = find_blocks(model)
    assert len(blocks.modules) == 3
    assert blocks.modules[0] is model.get_submodule(f"{blocks.path}.0")
    head = find_unembedding(model)
    hidden, logits = last_block_output(model, blocks, torch.randint(3, 90, (2, 7)))
    torch.testing.assert_close(head(hidden), logits)
    assert (head.collapse is not None) == (family in MANY_STREAMS)


@pytest.mark.parametrize("family", OTHERS)
def test_unembedding_scales_and_caps_as_the_model_does(family):
    numbers = {
        "vocab_size": 90,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        **OTHERS[family],
    }
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **numbers)).eval()
    model.get_input_embeddings().weight.data.mul_(30.0)
    blocks = find_blocks(model)
    hidden, logits = last_block_output(model, blocks, torch.randint(3, 90, (2, 7)))
    head = find_unembedding(model)
    plain = head.lm_head(head.final_norm(hidden))
    assert (plain - logits).abs().max() > 0.1
    torch.testing.assert_close(find_unembedding(model)(hidden), logits)


def test_grafted_model_has_the_backbones_blocks(tokenizer):
    backbone = tiny("llama", len(tokenizer))
    model = graft(backbone, EngramConfig(layers=(2,), d_mem=8, heads=2), tokenizer)
    blocks = find_blocks(model)
    assert blocks.path == "backbone.model.layers"
    assert blocks.modules == find_blocks(backbone).modules
    hidden, logits = last_block_output(model, blocks, torch.randint(3, 90, (2, 7)))
    torch.testing.assert_close(find_unembedding(model)(hidden), logits)


def test_refuses_what_is_no_decoder():
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with pytest.raises(ConfigError, match="BertModel has no unembedding"):
        find_unembedding(BertModel(BertConfig(**small, vocab_size=20, intermediate_size=16)))
    t5 = T5Config(vocab_size=20, d_model=16, d_ff=16, d_kv=8, num_layers=2, num_heads=2)
    with pytest.raises(ConfigError, match="T5ForConditionalGeneration is an encoder-decoder"):
        find_blocks(T5ForConditionalGeneration(t5))


def test_says_so_when_there_is_no_list_of_blocks():
    model = tiny("llama", 90)
    model.config.num_hidden_layers = 7
    with pytest.raises(ConfigError, match="no list of 7 blocks"):
        find_blocks(model)


def test_says_so_when_there_is_no_final_norm():
    model = tiny("llama", 90)
    del model.model.norm
    assert len(find_blocks(model).modules) == 3  # a map needs none
    with pytest.raises(ConfigError, match=r"no norm beside model\.layers"):
        find_unembedding(model)
