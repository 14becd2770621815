"""A small Qwen4 with its n-gram layer before blocks 2 and 3, random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def model(vocabulary: int) -> Any:
    """In eval mode; the convolution's weights are not zero, as at the start of a training."""
    found = pytest.importorskip("transformers.models.qwen4_exp", reason="transformers < 5.23")
    config = found.Qwen4ExpTextConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, linear_key_head_dim=8, linear_value_head_dim=8,
        linear_num_key_heads=2, linear_num_value_heads=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, num_experts_per_tok=2, num_experts=4, hc_lowrank=8,
        hc_count=4, ple_layer_ids=[2, 3], ple_embed_dim=24, ngram_size=3, heads_per_ngram=2,
        ngram_vocab_size_base=40, make_ngram_vocab_size_divisible_by=4, split_ngram_parts=2,
        eos_token_id=7, pad_token_id=0, initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4,
                         "partial_rotary_factor": 0.25},
    )  # fmt: skip
    torch.manual_seed(2)
    made = found.Qwen4ExpForCausalLM(config).eval()
    for block in made.model.layers[1:]:
        block.ple.conv1d.weight.data.normal_()
    return made
