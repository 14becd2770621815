"""A new model from a preset, with or without Engram modules, from a seed."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from engramcka.config.schema import EngramConfig
from engramcka.models.engram import graft
from engramcka.models.presets import preset_config, preset_engram


def build_model(
    preset: str,
    engram: EngramConfig | None,
    tokenizer: Any,
    seed: int,
    *,
    experts: int | None = None,
) -> PreTrainedModel:
    """A model with start weights, on the CPU, in float32 and training mode.

    The backbone's weights depend on preset, expert count, vocabulary and seed alone, so that
    models with and without Engram, or with it elsewhere, start from the same backbone.

    Args:
        preset: a name in `PRESETS`.
        engram: modules to graft on; None for those of the preset itself, if it has any.
        tokenizer: a fast one; its length is the vocabulary.
        seed: of all start weights.
        experts: routed experts a block in place of the preset's (see `allocate`).

    Raises:
        ConfigError: no such preset, a layer it does not have, a tokenizer that is not fast.
    """
    config = preset_config(preset, len(tokenizer))
    if experts is not None:
        config.n_routed_experts = experts
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    model.train()
    engram = engram or preset_engram(preset)
    return model if engram is None else graft(model, engram, tokenizer, seed)
