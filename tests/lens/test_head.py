"""The read-out is the model's own in every family, or the model is refused."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, tiny
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from engramcka.errors import ConfigError
from engramcka.lens.logit_lens import read_head
from engramcka.models import find_blocks

IDS = torch.arange(3, 40)
SCALED = {
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 1.5},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},  # divides
    "hyperclovax": {"logits_scaling": 0.125},  # multiplies, under the same name
    "recurrent_gemma": {"logits_soft_cap": 1.5, "lru_width": 32, "attention_window_size": 16},
    "falcon_h1": {"lm_head_multiplier": 0.25, "mamba_d_ssm": 32, "mamba_d_head": 8,
                  "mamba_n_heads": 4, "head_dim": 8},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4},  # a bias on its head
}  # fmt: skip


def scaled(family: str) -> nn.Module:
    numbers = {
        "vocab_size": 90,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **SCALED[family],
    }
    if family == "gptj":
        numbers = {k: numbers[k] for k in ("vocab_size", "pad_token_id", *SCALED[family])}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **numbers)).eval()
    model.get_output_embeddings().weight.data.mul_(30.0)
    if model.get_output_embeddings().bias is not None:
        nn.init.normal_(model.get_output_embeddings().bias)
    return model


def last_block(model: nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen = []
    handle = find_blocks(model).modules[-1].register_forward_hook(lambda m, i, o: seen.append(o))
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
    handle.remove()
    return (seen[0][0] if isinstance(seen[0], tuple) else seen[0])[0], logits


@pytest.mark.parametrize("family", [*FAMILIES, *SCALED])
def test_the_last_blocks_reading_is_the_models_logits(family: str) -> None:
    model = tiny(family, 90) if family in FAMILIES else scaled(family)
    head = read_head(model, IDS)
    hidden, logits = last_block(model, torch.randint(3, 90, (20,)))
    with torch.no_grad():
        found = head.logits(head.project(hidden), 0, 90)
        part = head.logits(head.project(hidden), 37, 61)
    torch.testing.assert_close(found, logits.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(part, found[:, 37:61])
    if family in SCALED and family != "gptj":
        assert (head.scale != 1.0) or (head.cap is not None)


def test_in_bfloat16_it_is_the_models_to_its_rounding() -> None:
    model = scaled("gemma2").to(torch.bfloat16)
    head = read_head(model, IDS)
    assert head.cap == 1.5
    hidden, logits = last_block(model, IDS)
    with torch.no_grad():
        found = head.logits(head.project(hidden), 0, 90)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits.float(), rtol=2**-7, atol=2**-6)


def test_a_model_that_does_something_else_to_its_logits_is_refused() -> None:
    class Odd(type(tiny("llama", 90))):  # type: ignore[misc]
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + output.logits.square()
            return output

    model = tiny("llama", 90)
    model.__class__ = Odd
    with pytest.raises(ConfigError, match="do not give its logits") as caught:
        read_head(model, IDS)
    assert "\n" not in str(caught.value)
