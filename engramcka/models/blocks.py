"""Find a decoder's parts by what they are, not by what a model family calls them.

The blocks are the one list of modules as long as the config says the model is deep; the final
norm is the last norm beside them. Knows no model classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError


@dataclass(frozen=True)
class Blocks:
    """The parts of a decoder.

    Attributes:
        path: name of the block list inside the model, as ``model.layers``.
        modules: the blocks, first to last.
        final_norm: applied to the last block's output before the unembedding.
        lm_head: unembedding, hidden size to vocabulary.
        embedding: token embedding.
        collapse: with several residual streams, what makes them one before ``final_norm``;
            None in an ordinary decoder.
        logit_scale: what the model multiplies its logits by.
        logit_cap: size the model softly caps its logits at; None if it does not.
    """

    path: str
    modules: tuple[nn.Module, ...]
    final_norm: nn.Module
    lm_head: nn.Module
    embedding: nn.Module
    collapse: nn.Module | None = None
    logit_scale: float = 1.0
    logit_cap: float | None = None

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) of a residual stream after any block, as LogitLens reads it."""
        if self.collapse is not None:
            hidden = self.collapse(hidden)
        logits: Tensor = self.lm_head(self.final_norm(hidden)) * self.logit_scale
        if self.logit_cap is None:
            return logits
        return torch.tanh(logits / self.logit_cap) * self.logit_cap


def find_blocks(model: PreTrainedModel) -> Blocks:
    """The blocks, final norm, unembedding and embedding of a causal LM.

    Raises:
        ConfigError: the model is not a decoder with an unembedding, or its blocks or final norm
            cannot be told apart.
    """
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise ConfigError(f"{name} is an encoder-decoder; only decoders (causal LMs) will do")
    lm_head = model.get_output_embeddings()
    if lm_head is None:
        raise ConfigError(f"{name} has no unembedding (LM head); load it as a causal LM")
    embedding = model.get_input_embeddings()
    path, blocks = _block_list(model)
    parent = model.get_submodule(path.rpartition(".")[0])
    width = int(cast(Tensor, embedding.weight).shape[-1])
    beside = [child for child in parent.children() if child is not blocks]
    norms = [child for child in beside if _is_norm(child)]
    if not norms:
        raise ConfigError(f"{name} has no norm beside {path}; its final norm cannot be found")
    heads = [c for c in beside if c is not embedding and not _is_norm(c) and _is_collapse(c, width)]
    return Blocks(
        path=path,
        modules=tuple(blocks),
        final_norm=norms[-1],
        lm_head=lm_head,
        embedding=embedding,
        collapse=heads[-1] if heads else None,
        **_logit_numbers(model),
    )


def _logit_numbers(model: PreTrainedModel) -> dict[str, Any]:
    """What a model does to its logits, by the names that configs use for it."""
    config = model.config.get_text_config(decoder=True)
    scale = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    return {
        "logit_scale": scale / divisor,
        "logit_cap": getattr(config, "final_logit_softcapping", None),
    }


def _block_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    depth = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    outer = [
        (path, module)
        for path, module in lists
        if not any(path.startswith(f"{other}.") for other, _ in lists)
    ]
    if not outer:
        raise ConfigError(
            f"{type(model).__name__} has no list of {depth} blocks, as its config says it should; "
            "only decoders that keep their blocks in one list can be used"
        )
    return max(outer, key=lambda found: sum(p.numel() for p in found[1].parameters()))


def _is_norm(module: nn.Module) -> bool:
    """A leaf with a 1-D weight, or a norm without weights."""
    if next(module.children(), None) is not None:
        return False
    weights = dict(module.named_parameters(recurse=False))
    if not weights:
        return "norm" in type(module).__name__.lower()
    return "weight" in weights and all(w.dim() == 1 for w in weights.values())


def _is_collapse(module: nn.Module, width: int) -> bool:
    """It reads several streams at once: a matrix with one row a stream, all streams wide."""
    return any(
        weight.dim() == 2 and weight.shape[1] == weight.shape[0] * width and weight.shape[0] > 1
        for weight in module.parameters(recurse=False)
    )
