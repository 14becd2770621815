"""One tiny config for each model family that the package says it handles."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import engramcka.models.hyper  # noqa: F401  (registers our own backbone)

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}
_MLA = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

FAMILIES = {
    "llama": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {**_EXPERTS, "head_dim": 8, "num_experts": 4},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "deepseek_v2": {**_EXPERTS, **_MLA, "topk_method": "greedy", "head_dim": 4},
    "deepseek_v3": {**_EXPERTS, **_MLA},
    "deepseek_v4": {
        **_EXPERTS,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "q_lora_rank": 16,
        "n_routed_experts": 4,
        "o_groups": 2,
        "o_lora_rank": 8,
        "hc_mult": 4,
        "hc_sinkhorn_iters": 4,
        "sliding_window": 64,
        "layer_types": ["sliding_attention"] * 3,
        "mlp_layer_types": ["moe"] * 3,
        "partial_rotary_factor": 0.5,
    },
    "engramcka_hyper_deepseek": {**_EXPERTS, **_MLA, "hc_mult": 4},
    "gpt2": {"n_positions": 128},
    "gpt_neox": {},
    "gemma3_text": {"head_dim": 8, "sliding_window": 64},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
}


def tiny(family: str, vocab_size: int, seed: int = 0) -> PreTrainedModel:
    """A random model of the family, in eval mode."""
    numbers = {**_COMMON, **FAMILIES[family], "vocab_size": vocab_size}
    if family == "gpt2":
        del numbers["intermediate_size"], numbers["num_key_value_heads"]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **numbers)).eval()
    for parameter in model.parameters():  # far from the start, where blocks hardly do anything
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
    return model
