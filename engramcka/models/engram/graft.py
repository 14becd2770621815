"""Putting Engram modules on a model that is already there."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers import initialization as init

from engramcka.config.schema import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.configs import EngramModelConfig
from engramcka.models.engram.compression import token_map
from engramcka.models.engram.model import EngramForCausalLM


def graft(
    backbone: PreTrainedModel, engram: EngramConfig, tokenizer: Any, seed: int = 0
) -> EngramForCausalLM:
    """Put Engram modules on a causal LM; its weights are used as they are, not copied.

    Args:
        backbone: any transformers causal LM.
        engram: where and how large.
        tokenizer: the model's, a fast one (for the compression table and the pad id).
        seed: of the modules' start weights, which come from generators of their own: the first
            module's are the same wherever it is put.

    Raises:
        ConfigError: a layer the model does not have, a tokenizer that does not fit it, or a model
            that is not a plain decoder: multimodal, or with Engram modules already.
    """
    text_config = backbone.config
    if text_config.get_text_config(decoder=True) is not text_config:
        raise ConfigError(
            f"{type(backbone).__name__} is made of several models; graft onto the plain decoder "
            "inside it, and name all Engram layers at once"
        )
    ids, n_ids = token_map(tokenizer, text_config.vocab_size, engram.compression)
    pad_id = tokenizer.pad_token_id
    config = EngramModelConfig(
        text_config=text_config,
        engram=engram.model_dump(mode="json"),
        n_canonical_ids=n_ids if pad_id is not None else n_ids + 1,
        pad_canonical_id=int(ids[pad_id]) if pad_id is not None else n_ids,
    )
    with init.no_init_weights():
        model = EngramForCausalLM(config, backbone)
    model.hashing.token_map.copy_(ids)
    for i, name in enumerate(model.engrams):
        generator = torch.Generator().manual_seed(seed * 1009 + i)
        model.module(name).reset_parameters(generator)
    model.engrams.to(device=backbone.device, dtype=backbone.dtype)
    model.hashing.to(device=backbone.device)
    return model.train(backbone.training)
