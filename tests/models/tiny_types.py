"""Tiny models of every type that transformers has, with random weights."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

BLOCKS = 3
IDS = np.arange(3, 14)
MOST_PARAMETERS = 60e6
SCALE = 4.0

_NUMBERS = {  # pattern over the names of a config's numbers -> what they become
    r"^(hidden_size|d_model|n_embd|dim|emb_dim|embed_dim|decoder_hidden_size)$": 32,
    r"(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|d_inner|inner_hidden_size)$": 48,
    r"^(num_hidden_layers|n_layers?|num_layers|\w+coder_layers|num_decoder_layers)$": BLOCKS,
    r"^(num_attention_heads|n_heads?|num_heads|\w+coder_attention_heads)$": 4,
    r"^num_key_value_heads$": 2,
    r"^vocab_size$": 90,
    r"^head_dim$": 8,
    r"^rotary_dim$": 4,
    r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts)$": 4,
    r"^(num_experts_per_tok|moe_topk|moe_k|num_experts_per_token|top_k)$": 2,
    r"^(max_position_embeddings|n_positions|n_ctx|max_sequence_length)$": 128,
    r"^(q_lora_rank|kv_lora_rank)$": 16,
    r"^(n_group|topk_group|num_expert_group|first_k_dense_replace|n_shared_experts)$": 1,
    r"^(qk_nope_head_dim|v_head_dim)$": 8,
    r"^qk_rope_head_dim$": 4,
    r"^mamba_(n_heads|d_head)$": 8,
    r"^pad_token_id$": 0,
    r"^bos_token_id$": 1,
    r"^eos_token_id$": 2,
}
_MLA = {"num_key_value_heads": 4, "head_dim": 4}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_SMALL = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 48, "num_hidden_layers": BLOCKS, "vocab_size": 90, "pad_token_id": 0,
}  # fmt: skip
_EQUAL = {**_SMALL, "num_key_value_heads": 4}
_PER_LAYER = {"vocab_size_per_layer_input": 90, "hidden_size_per_layer_input": 8}
_HYBRID = ["linear_attention", "hybrid", "hybrid"]
_LOCAL = {**_EQUAL, "hidden_size_global": 32, "cross_attn_k": 1}
_DOTS = {
    **_EQUAL, "head_dim": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
    "index_head_dim": 8, "index_n_heads": 2, "q_lora_rank": 16, "kv_lora_rank": 16,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "layer_types": ["indexed_attention", "indexed_attention", "sliding_attention"],
    "mlp_layer_types": ["dense", "sparse", "sparse"],
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16, "swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8,
}  # fmt: skip
_QWEN4 = {
    "eos_token_id": 2, "ple_layer_ids": [2], "ple_embed_dim": 32, "ngram_vocab_size_base": 50,
    "heads_per_ngram": 2, "make_ngram_vocab_size_divisible_by": 1, "split_ngram_parts": 1,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {  # numbers that have to fit each other
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "hy_v4", "glm_moe_dsa",
         "minicpm3", "sarvam_mla", "youtu"), _MLA),
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "blt": {
        "encoder_hash_byte_group_vocab": 50, "cross_attn_k": 1, "encoder_config": _LOCAL,
        "decoder_config": _LOCAL, "global_config": _EQUAL, "patcher_config": _EQUAL,
    },
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {
        "d_model": 32, "n_heads": 4, "n_layers": BLOCKS,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {
            "hidden_size": 32, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {**_MLA, "num_experts_per_tok": 2, "topk_method": "greedy"},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {
        "text_config": _DOTS, "vision_config": {"adapter_out_dim": 32},
        "audio_config": {"adapter_out_dim": 32},
    },
    "dots3_note_text": _DOTS,
    "esm": {"vocab_size": 90, "pad_token_id": 0, "mask_token_id": 4},
    "esmc": {**_EQUAL, "vocab_size": 90},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8},
    "funnel": {"block_sizes": [1] * BLOCKS},
    "gemma3n_text": {
        **_SMALL, **_PER_LAYER, "num_kv_shared_layers": 1, "intermediate_size": [48] * BLOCKS,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        "activation_sparsity_pattern": [0.5, 0.0, 0.0], "laurel_rank": 4,
    },
    "gemma4": {"text_config": {**_SMALL, **_PER_LAYER}},
    "gemma4_text": {**_SMALL, **_PER_LAYER},
    "hrm_text": {"num_layers_per_stack": BLOCKS, "num_hidden_layers": 8 * BLOCKS, "head_dim": 8},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": BLOCKS},
    "longcat_flash": {
        **_MLA, "num_layers": BLOCKS, "qk_head_dim": 12, "expert_ffn_hidden_size": 24,
        "zero_expert_num": 2,
    },
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 32},
    "mamba2": {"hidden_size": 32, "num_heads": 8, "head_dim": 8},
    "neomme": {
        **_SMALL, "head_dim": 16, "embedding_rank": 8,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "perceiver": {
        "num_latents": 8, "d_latents": 32, "d_model": 32, "num_self_attends_per_block": BLOCKS},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {
        "axial_pos_embds": False, "attn_layers": ["local"] * BLOCKS, "attention_head_size": 8,
        "is_decoder": True,
    },
    "squeezebert": {
        "embedding_size": 32,
        **dict.fromkeys(("q_groups", "k_groups", "v_groups", "intermediate_groups",
                         "output_groups"), 1),
    },
    "xlstm": {"embedding_dim": 32, "num_blocks": BLOCKS},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {
        **_EQUAL, "n_mamba_heads": 2, "attention_hidden_size": 64, "attention_head_dim": 16,
        "layers_block_type": _HYBRID, "mamba_dt_rank": 4,
    },
    "zamba2": {
        **_EQUAL, "n_mamba_heads": 8, "mamba_headdim": 8, "attention_hidden_size": 64,
        "attention_head_dim": 16, "layers_block_type": _HYBRID, "hybrid_layer_ids": [1, 2],
    },
}  # fmt: skip


_NOT_OF_TEXT = {  # what cannot be run on token ids alone, so that this test cannot build it
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"),
        "drafts for a target model, whose keys and values it needs"),
    **dict.fromkeys(
        ("musicgen", "musicgen_melody"),
        "makes audio codes; transformers opens its decoder by no such config"),
    "funnel": "pools tokens between its blocks",
    "perceiver": "its blocks are over latents, not over tokens",
}  # fmt: skip


def shrink(config: PretrainedConfig) -> None:
    """Make a config's numbers small, those of the configs inside it too."""
    for key, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            shrink(value)
        elif key.endswith(("layer_types", "block_types", "layers_block_type")):
            if isinstance(value, list):
                setattr(config, key, value[:BLOCKS])
        elif isinstance(value, int) and not isinstance(value, bool):
            for pattern, number in _NUMBERS.items():
                if re.search(pattern, key):
                    setattr(config, key, number)


def build(name: str, auto: Any = AutoModelForCausalLM) -> Any:
    """A tiny model of a type, or the reason why it is not one, as text."""
    own = _OWN.get(name, {})
    try:
        config = AutoConfig.for_model(name, **own)
        shrink(config)
        give(config, own)
        if auto is AutoModelForCausalLM and hasattr(config, "is_decoder"):
            config.is_decoder = True
        torch.manual_seed(0)
        with torch.device("meta"):
            size = sum(p.numel() for p in auto.from_config(config).parameters())
        if size > MOST_PARAMETERS:
            return "this test's numbers make it too large"
        model = auto.from_config(config).eval()
        for parameter in model.parameters():  # at the start blocks do hardly anything
            if parameter.dim() > 1:
                parameter.data.mul_(SCALE)
                if not parameter.any():
                    parameter.data.normal_(std=0.1)
        some = torch.from_numpy(IDS)[None]
        with torch.no_grad():
            model(input_ids=some, attention_mask=torch.ones_like(some), use_cache=False)
    except Exception as error:
        return f"this test's numbers do not fit it ({line(error)})"
    return model


def give(config: PretrainedConfig, numbers: dict[str, Any]) -> None:
    """Set a config's own numbers again, which `shrink` has changed too."""
    for key, value in numbers.items():
        inside = vars(config).get(key)
        if isinstance(inside, PretrainedConfig):
            give(inside, value)
        elif key in vars(config):
            setattr(config, key, value)


def own_fault(name: str, auto: Any) -> str:
    """Why transformers cannot build or run a type on text alone either; empty if it can."""
    if name in _NOT_OF_TEXT:
        return _NOT_OF_TEXT[name]
    try:
        with torch.device("meta"):
            auto.from_config(AutoConfig.for_model(name))
    except ImportError as error:
        return line(error).split(" but ")[0]
    except Exception as error:
        return f"transformers cannot build it: {line(error)}"
    return ""


def line(error: Exception) -> str:
    """An error's first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
