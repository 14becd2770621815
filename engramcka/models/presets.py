"""Architectures by name. Plain numbers; torch and transformers load only to build one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engramcka.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Preset:
    """One architecture.

    Attributes:
        description: a line for people.
        model_type: transformers' name of the architecture.
        numbers: fields of its config.
    """

    description: str
    model_type: str
    numbers: dict[str, Any] = field(default_factory=dict)


_DEEPSEEK_V3: dict[str, Any] = {
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "num_nextn_predict_layers": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": None,
    "eos_token_id": None,
}

_PRESETS: dict[str, Preset] = {
    "moe-tiny": Preset(
        "6 layers of width 96, 8 routed experts, MLA: seconds a training on a laptop",
        "deepseek_v3",
        {
            **_DEEPSEEK_V3,
            "num_hidden_layers": 6,
            "hidden_size": 96,
            "intermediate_size": 256,
            "moe_intermediate_size": 40,
            "first_k_dense_replace": 1,
            "n_routed_experts": 8,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": None,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 24,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
        },
    ),
}

PRESETS: dict[str, str] = {name: preset.description for name, preset in _PRESETS.items()}
"""Name -> description of every architecture."""


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _PRESETS:
        raise ConfigError(f"preset = {name!r} is not known; there are {', '.join(_PRESETS)}")
    return _PRESETS[name]


def preset_layers(name: str) -> int:
    """Number of blocks, without loading torch."""
    return find_preset(name).numbers["num_hidden_layers"]


def preset_config(name: str, vocab_size: int) -> PreTrainedConfig:
    """The transformers config of a preset, for a vocabulary of this size."""
    from transformers import AutoConfig

    preset = find_preset(name)
    return AutoConfig.for_model(preset.model_type, vocab_size=vocab_size, **preset.numbers)
