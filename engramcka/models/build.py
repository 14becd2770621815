"""A preset as a model: with start weights from a seed, or on the meta device without weights.

Parameters are counted on the model itself, so that the numbers are those of the architecture and
not of a formula.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from engramcka.config.memory_tables import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.engram import EngramForCausalLM, EngramModelConfig, graft
from engramcka.models.engram.hashing import require_fitting
from engramcka.models.engram.model import require_plain
from engramcka.models.lora import add_low_rank_updates
from engramcka.models.memory import find_memories
from engramcka.models.presets import PRESETS, find_preset, preset_config, preset_engram


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


def prepare_base(
    model: PreTrainedModel,
    tokenizer: Any,
    engram: EngramConfig | None,
    seed: int,
    *,
    trained: Literal["memory", "all", "lora"],
    start: Literal["identity", "paper"],
    lora_rank: int,
) -> PreTrainedModel:
    """A loaded model with memory grafted on, ready to be trained: what does not learn is frozen.

    Args:
        model: a causal LM; its weights are used as they are.
        tokenizer: its own.
        engram: modules; None for none.
        seed: of their start weights, and of the low-rank updates'.
        trained: "memory" for the modules alone, "all", or "lora" for the modules and low-rank
            updates of the model's linear layers, twice the rank as their scale.
        start: of the modules, see `engramcka.models.graft`.
        lora_rank: rank of the updates.

    Raises:
        ConfigError: a model that cannot have modules, or peft is not installed.
    """
    if trained != "all":
        model.requires_grad_(False)
    if trained == "lora":
        add_low_rank_updates(model, lora_rank, seed)
    model.train()
    return model if engram is None else graft(model, engram, tokenizer, seed, start=start)


def require_base(empty: PreTrainedModel, tokenizer: Any, *, trained: str, lora_rank: int) -> None:
    """Refuse a model that `prepare_base` could not prepare, or whose result could not be opened.

    Args:
        empty: the model without weights.
        tokenizer, trained, lora_rank: as there.

    Raises:
        ConfigError: it has modules already, its code stands beside its weights, its tokenizer has
            more ids than it has rows or no end of text, or nothing that low-rank updates are for.
    """
    config = empty.config
    require_plain(config)
    if type(empty).__module__.partition(".")[0] not in ("transformers", "engramcka"):
        raise ConfigError(
            f"{type(empty).__name__} is code that stands beside the weights, which would not stand "
            "beside what is trained here; allowed: types of model that transformers has itself"
        )
    require_fitting(tokenizer, config.vocab_size)
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "its tokenizer has no end-of-text token (eos_token), which stands between the "
            "documents of the training text; set one in its tokenizer_config.json"
        )
    if trained == "lora":
        add_low_rank_updates(copy.deepcopy(empty), lora_rank, 0)


def meta_model(
    name: str,
    vocab_size: int,
    engram: EngramConfig | None = None,
    *,
    experts: int | None = None,
) -> PreTrainedModel:
    """A preset on the meta device: all shapes, no weights.

    Args:
        name: of the preset.
        vocab_size: tokens.
        engram: modules in place of those that belong to the preset.
        experts: routed experts a block in place of the preset's.
    """
    engram = engram or find_preset(name).engram
    config = preset_config(name, vocab_size)
    if experts is not None:
        config.n_routed_experts = experts
    with torch.device("meta"):
        if engram is None:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
            return model
        grafted = EngramModelConfig(
            text_config=config,
            engram=engram.model_dump(mode="json"),
            n_canonical_ids=vocab_size,
        )
        return EngramForCausalLM(grafted)


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of one model.

    Attributes:
        total: all, a tied embedding once.
        active: those that take part in one token: without the experts it is not sent to, the
            table rows it does not look up, and an embedding that is only looked up in. The
            paper's 4.1B total and 3.8B active of a dense model are this count.
        engram: of all Engram modules, projections included.
        tables: of their tables alone.
        inactive_experts: of the routed experts a token is not sent to.
    """

    total: int
    active: int
    engram: int
    tables: int
    inactive_experts: int

    @property
    def rho(self) -> float | None:
        """Experts' share of the inactive parameters; None where there are none."""
        inactive = self.inactive_experts + self.tables
        return self.inactive_experts / inactive if inactive else None


@dataclass(frozen=True)
class PresetRow:
    """A line of the presets' table; numbers are parameters."""

    name: str
    description: str
    vocab_size: int
    total: int
    active: int
    engram: int
    rho: float | None
    pair: str | None


def count_parameters(model: PreTrainedModel) -> ParameterCount:
    """Count a model's parameters; it may be on the meta device."""
    memories = find_memories(model).values()
    tables = sum(memory.table_parameters for memory in memories)
    looked_up = sum(memory.row_width for memory in memories)
    inactive_experts = sum(_inactive_experts(module, model) for module in model.modules())
    total = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().get_parameter("weight")
    head = model.get_output_embeddings().get_parameter("weight")
    only_looked_up = 0 if embedding is head else embedding.numel() - embedding.shape[-1]
    return ParameterCount(
        total=total,
        active=total - inactive_experts - (tables - looked_up) - only_looked_up,
        engram=sum(p.numel() for memory in memories for p in memory.module.parameters()),
        tables=tables,
        inactive_experts=inactive_experts,
    )


def _inactive_experts(module: nn.Module, model: PreTrainedModel) -> int:
    """Parameters of a stack of experts (experts, out, in) that one token does not use."""
    stacked = [p for p in module.parameters(recurse=False) if p.dim() == 3]
    if len(stacked) < 2 or not hasattr(module, "num_experts"):
        return 0
    active = model.config.get_text_config().num_experts_per_tok
    return sum(p[0].numel() * (p.shape[0] - active) for p in stacked)


def describe_presets() -> list[PresetRow]:
    """Every preset with its parameters, at the vocabulary it is stated for."""
    rows = []
    for name, description in PRESETS.items():
        preset = find_preset(name)
        count = count_parameters(meta_model(name, preset.vocab_size))
        rows.append(
            PresetRow(
                name=name,
                description=description,
                vocab_size=preset.vocab_size,
                total=count.total,
                active=count.active,
                engram=count.engram,
                rho=count.rho,
                pair=preset.pair,
            )
        )
    return rows
