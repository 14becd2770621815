"""A decoder with Engram modules, without its LM head: what ``AutoModel`` opens."""

from __future__ import annotations

from typing import cast

from transformers import AutoModel, PreTrainedModel

from engramcka.models.engram.configuration import EngramModelConfig
from engramcka.models.engram.model import EngramForCausalLM


class EngramModel(EngramForCausalLM):
    """The same decoder up to its final norm: hidden states in place of logits.

    It opens the folders of `EngramForCausalLM`, LM head and all.
    """

    @property
    def inner(self) -> PreTrainedModel:
        """The backbone without its LM head."""
        return cast(PreTrainedModel, self.backbone.base_model)


AutoModel.register(EngramModelConfig, EngramModel, exist_ok=True)
