from __future__ import annotations

import pytest
import tiny_types
import torch
from families import FAMILIES, tiny
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from engramcka.config import EngramConfig
from engramcka.errors import ConfigError
from engramcka.extraction.residual_stream import ResidualStream
from engramcka.models import find_blocks, find_unembedding, graft, require_stream, take_steps
from engramcka.models.blocks import capture_points

NUMBERS = ("layers", "ffn_dim", "attention_heads")
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
    return (hidden[0] if isinstance(hidden, tuple | list) else hidden), logits


@pytest.mark.parametrize("family", FAMILIES)
def test_last_block_unembedded_is_the_models_output(family):
    model = tiny(family, 90)
    blocks = find_blocks(model)
    assert len(blocks.modules) == 3
    assert blocks.modules[0] is model.get_submodule(f"{blocks.path}.0")
    head = find_unembedding(model)
    hidden, logits = last_block_output(model, blocks, torch.randint(3, 90, (2, 7)))
    torch.testing.assert_close(head(hidden), logits)
    assert len(head.steps) == (2 if family in MANY_STREAMS else 1)


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
    plain = head.lm_head(take_steps(head.steps, hidden))
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
    with pytest.raises(
        ConfigError, match=r"T5ForConditionalGeneration is an encoder-decoder, which"
    ):
        find_blocks(T5ForConditionalGeneration(t5))


def test_the_encoder_of_an_encoder_decoder_has_its_own_depth():
    numbers = {f"{half}_{key}": 4 for half in ("encoder", "decoder") for key in NUMBERS}
    config = BartConfig(vocab_size=90, d_model=32, **numbers)
    config.encoder_layers, config.decoder_layers = 3, 2
    encoder = BartModel(config).get_encoder().eval()
    ids = torch.arange(3, 12)
    points = require_stream(encoder, capture_points(encoder), ids.numpy(), is_chain=True)
    stream, at = ResidualStream(points), torch.tensor([5])
    with torch.no_grad(), stream.capture(torch.tensor([0]), at, at):
        encoder(input_ids=ids[None])
    with torch.no_grad():
        states = encoder(input_ids=ids[None], output_hidden_states=True).hidden_states
    assert list(points) == [1, 2, 3]
    for number in points:
        torch.testing.assert_close(stream.selected[number][0], states[number][0, 5])


def test_says_so_when_there_is_no_list_of_blocks():
    model = tiny("llama", 90)
    model.config.num_hidden_layers = 7
    with pytest.raises(ConfigError, match="no list of 7 blocks"):
        find_blocks(model)


def test_a_decoder_without_a_final_norm_has_a_lens():
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=3, n_head=4, vocab_size=90)
    ).eval()
    blocks, head = find_blocks(model), find_unembedding(model)
    assert not [step for step in head.steps if not isinstance(step, nn.Dropout)]
    hidden, logits = last_block_output(model, blocks, torch.randint(3, 90, (2, 7)))
    torch.testing.assert_close(head(hidden), logits)


def test_of_several_lists_the_texts_own_is_taken():
    """One of pictures, as deep and larger, stands beside it."""
    model = tiny("llama", 90)
    model.pictures = nn.ModuleList(nn.Linear(200, 200) for _ in range(3))
    assert find_blocks(model).path == "model.layers"


def test_a_config_that_says_no_depth_is_one_line():
    with pytest.raises(ConfigError, match="does not say how many blocks it has; its residual"):
        find_blocks(tiny_types.build("blt"))
