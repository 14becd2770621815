"""Architectures by name. Plain numbers; torch and transformers load only to build one.

The four large ones are the paper's (table in section 4.1 and appendix A). What it does not print
is chosen so that its totals come out: experts of width 1536, a dense width of 12288 (that of eight
experts, six routed and two shared), query rank 512 and key-value rank 512 in MLA. The small ones
keep their proportions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from engramcka.config.memory_tables import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.allocation import allocate, with_tables

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PAPER_VOCABULARY = 129_280
PAPER_RHO = 0.743
"""Experts' share of the inactive parameters in Engram-27B."""


@dataclass(frozen=True)
class Preset:
    """One architecture.

    Attributes:
        description: a line for people.
        model_type: transformers' name of the backbone.
        numbers: fields of the backbone's config.
        vocab_size: vocabulary that its parameters are stated for.
        engram: Engram modules that belong to it; None for a plain backbone.
        pair: the plain preset with as many parameters; None if there is none.
    """

    description: str
    model_type: str
    numbers: dict[str, Any]
    vocab_size: int = PAPER_VOCABULARY
    engram: EngramConfig | None = None
    pair: str | None = None


def _mla(
    heads: int, ranks: tuple[int | None, int], nope: int, rope: int, value: int
) -> dict[str, Any]:
    """Multi-head latent attention: heads, (query, key-value) rank, head widths."""
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": ranks[0],
        "kv_lora_rank": ranks[1],
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": value,
    }


def _moe(
    routed: int, active: int, shared: int, width: int, dense_blocks: int = 1
) -> dict[str, Any]:
    """Experts of one width; the first ``dense_blocks`` blocks have none."""
    return {
        "n_routed_experts": routed,
        "num_experts_per_tok": active,
        "n_shared_experts": shared,
        "moe_intermediate_size": width,
        "first_k_dense_replace": dense_blocks,
    }


_COMMON: dict[str, Any] = {
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.0,
    "num_nextn_predict_layers": 0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "bos_token_id": None,
    "eos_token_id": None,
    "max_position_embeddings": 4096,
}
_PLAIN = "deepseek_v3"
_HYPER = "engramcka_hyper_deepseek"
_STREAMS = {"hc_mult": 4}

_LARGE: dict[str, Any] = {
    **_COMMON,
    **_STREAMS,
    **_mla(32, (512, 512), 128, 64, 128),
    "num_hidden_layers": 30,
    "hidden_size": 2560,
    "intermediate_size": 12288,
}
_MOE_27B = {**_LARGE, **_moe(72, 6, 2, 1536)}
_MOE_3B: dict[str, Any] = {
    **_COMMON,
    **_STREAMS,
    **_mla(16, (512, 512), 128, 64, 128),
    **_moe(72, 6, 2, 816),
    "num_hidden_layers": 12,
    "hidden_size": 1280,
    "intermediate_size": 6528,
}
_MOE_100M: dict[str, Any] = {
    **_COMMON,
    **_mla(8, (None, 256), 64, 32, 64),
    **_moe(32, 3, 1, 128),
    "num_hidden_layers": 12,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "tie_word_embeddings": True,
}
_MOE_TINY: dict[str, Any] = {
    **_COMMON,
    **_mla(4, (None, 32), 16, 8, 24),
    **_moe(8, 2, 1, 40),
    "num_hidden_layers": 6,
    "hidden_size": 96,
    "intermediate_size": 256,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
_MOE_TINY_12: dict[str, Any] = {
    **_MOE_TINY,
    **_mla(4, (None, 32), 16, 8, 16),
    **_moe(8, 2, 1, 32),
    "num_hidden_layers": 12,
    "hidden_size": 64,
    "intermediate_size": 160,
}

_BACKBONES = {
    "dense-4b": Preset(
        "the paper's Dense-4B: 30 layers, MLA, 4 residual streams, no experts",
        _HYPER,
        {**_LARGE, **_moe(1, 1, 1, 12288, dense_blocks=30)},
    ),
    "moe-27b": Preset(
        "the paper's MoE-27B: 72 routed experts, 6 active, 2 shared", _HYPER, _MOE_27B
    ),
    "moe-3b": Preset(
        "the paper's ablation backbone: 12 layers, 3B parameters, 0.56B active", _HYPER, _MOE_3B
    ),
    "moe-100m": Preset(
        "12 layers of width 512, 32 experts, one residual stream: for one GPU",
        _PLAIN,
        _MOE_100M,
        vocab_size=32_768,
    ),
    "moe-100m-hyper": Preset(
        "moe-100m with 4 residual streams",
        _HYPER,
        {**_MOE_100M, **_STREAMS},
        vocab_size=32_768,
    ),
    "moe-tiny": Preset(
        "6 layers of width 96, 8 experts, one residual stream: trains in seconds on a CPU",
        _PLAIN,
        _MOE_TINY,
        vocab_size=4096,
    ),
    "moe-tiny-12": Preset(
        "12 layers of width 64, 8 experts, one residual stream: a layer sweep on a CPU",
        _PLAIN,
        _MOE_TINY_12,
        vocab_size=4096,
    ),
    "moe-tiny-hyper": Preset(
        "moe-tiny with 4 residual streams", _HYPER, {**_MOE_TINY, **_STREAMS}, vocab_size=4096
    ),
}


@dataclass(frozen=True)
class _Grafted:
    """An Engram preset as a change to a backbone: experts left, or the rho they are solved from.

    ``tables``: parameters of the tables, where they come on top instead.
    """

    description: str
    backbone: str
    layers: tuple[int, ...]
    d_mem: int
    heads: int = 8
    experts: int | None = None
    table_size: int | None = None
    tables: int | None = None


_GRAFTED = {
    "engram-27b": _Grafted(
        "the paper's Engram-27B: 55 experts and 5.7B of tables at layers 2 and 15",
        "moe-27b", (2, 15), 1280, experts=55, table_size=2_262_400,
    ),
    "engram-40b": _Grafted(
        "the paper's Engram-40B: as Engram-27B, with 18.5B of tables",
        "moe-27b", (2, 15), 1280, experts=55, table_size=7_239_680,
    ),
    "engram-3b": _Grafted(
        "the paper's ablation: moe-3b and on top 1.6B of tables at layers 2 and 6",
        "moe-3b", (2, 6), 640, experts=72, tables=1_600_000_000,
    ),
    "engram-3b-iso": _Grafted("as many parameters as moe-3b, rho 74 %", "moe-3b", (2, 6), 640),
    "engram-100m": _Grafted("as many parameters as moe-100m, rho 74 %", "moe-100m", (2, 6), 256),
    "engram-100m-hyper": _Grafted(
        "as many parameters as moe-100m-hyper, rho 74 %", "moe-100m-hyper", (2, 6), 256
    ),
    "engram-tiny": _Grafted("as many parameters as moe-tiny", "moe-tiny", (2, 3), 48, heads=4),
    "engram-tiny-hyper": _Grafted(
        "as many parameters as moe-tiny-hyper", "moe-tiny-hyper", (2, 3), 48, heads=4
    ),
}  # fmt: skip

PRESETS: dict[str, str] = {
    name: preset.description for table in (_BACKBONES, _GRAFTED) for name, preset in table.items()
}
"""Name -> description of every architecture."""


@cache
def find_preset(name: str) -> Preset:
    """The preset of this name, its expert count and table rows solved.

    Raises:
        ConfigError: there is none.
    """
    if name in _BACKBONES:
        return _BACKBONES[name]
    if name not in _GRAFTED:
        raise ConfigError(f"preset = {name!r} is not known; there are {', '.join(PRESETS)}")
    grafted = _GRAFTED[name]
    base = _BACKBONES[grafted.backbone]
    engram = EngramConfig(layers=grafted.layers, d_mem=grafted.d_mem, heads=grafted.heads)
    if grafted.table_size is not None:
        engram = engram.model_copy(update={"table_size": grafted.table_size})
    elif grafted.tables is not None:
        engram = with_tables(engram, grafted.tables)
    experts = grafted.experts
    if experts is None:
        solved = allocate(base.numbers, engram, PAPER_RHO)
        experts, engram = solved.experts, solved.engram
    numbers = {**base.numbers, "n_routed_experts": experts}
    on_top = grafted.tables is not None or name == "engram-40b"
    return Preset(
        grafted.description,
        base.model_type,
        numbers,
        base.vocab_size,
        engram,
        None if on_top else grafted.backbone,
    )


def preset_layers(name: str) -> int:
    """Number of blocks, without loading torch."""
    layers: int = find_preset(name).numbers["num_hidden_layers"]
    return layers


def preset_engram(name: str) -> EngramConfig | None:
    """The Engram modules that belong to a preset; None for a plain backbone."""
    return find_preset(name).engram


def preset_config(name: str, vocab_size: int) -> PreTrainedConfig:
    """The transformers config of a preset's backbone, for a vocabulary of this size."""
    from transformers import AutoConfig

    import engramcka.models.hyper  # noqa: F401  (registers the architecture)

    preset = find_preset(name)
    return AutoConfig.for_model(preset.model_type, vocab_size=vocab_size, **preset.numbers)
