"""Tensor parallelism of transformers: over how many ranks a model can be sharded, and what each
rank then holds.

Both follow from the plan of the model's class and from its shapes; the model may be on the meta
device. Weights within blocks must split evenly, attention heads stay whole, and rows of an expert's
weights are split in pieces of 16 bytes, as torch's grouped matrix products need them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from engramcka.errors import ConfigError

MOST_RANKS = 1024
_ALIGNED = 16  # bytes of an expert's weights that stay together
_NAMED = 3  # of what must be divided, in a message

# Style of a plan -> dimension of a weight that it cuts, counted from the last, and the matrices
# that lie side by side in it. Biases of the first three are cut too; other styles cut nothing.
_CUTS = {
    "colwise": (2, 1),
    "colwise_rep": (2, 1),
    "colwise_gather_output": (2, 1),
    "rowwise": (1, 1),
    "rowwise_rep": (1, 1),
    "rowwise_split_input": (1, 1),
    "packed_colwise": (2, 2),
    "packed_rowwise": (1, 2),
    "embedding_rowwise": (2, 1),
    "embedding_colwise": (1, 1),
}
_MAY_BE_UNEVEN = ("colwise_rep", "colwise_gather_output", "embedding_rowwise", "embedding_colwise")
_KEYS = ("k_proj", "v_proj", "qkv_proj", "query_key_value")  # what holds attention's keys


@dataclass(frozen=True)
class Sharding:
    """How a model's weights are split over ranks.

    Attributes:
        sharded: parameters that are cut into parts, one part a rank.
        replicated: parameters that every rank holds.
        divisor: what the number of ranks must divide.
        reason: what must be divided, the smallest numbers first, as text for a message.
    """

    sharded: int
    replicated: int
    divisor: int
    reason: str

    def held(self, ranks: int) -> int:
        """Parameters that one of so many ranks holds."""
        return self.replicated + -(-self.sharded // ranks)

    @property
    def allowed(self) -> list[int]:
        """Numbers of ranks, from 2, that the model can be split over."""
        most = min(self.divisor, MOST_RANKS)
        return [ranks for ranks in range(2, most + 1) if self.divisor % ranks == 0]


def sharding_of(model: PreTrainedModel, itemsize: int) -> Sharding:
    """How tensor parallelism splits a model, by the plan that transformers has for its class.

    Args:
        model: a causal LM.
        itemsize: bytes of a weight, as it will be loaded.

    Raises:
        ConfigError: there is none for its blocks.
    """
    plan: dict[str, str] = model.tp_plan or {}
    sharded = replicated = 0
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        style = _style(name, plan)
        if style is None or not _is_cut(style, name):
            replicated += parameter.numel()
            continue
        sharded += parameter.numel()
        if style not in _MAY_BE_UNEVEN:
            piece = _ALIGNED // itemsize if parameter.dim() == 3 else 1
            label = _short(name) if piece == 1 else f"{_short(name)} (by {piece})"
            sizes[label] = _parts(style, parameter, piece)
    if not sizes:
        raise ConfigError(
            f"{type(model).__name__} has no tensor-parallel plan for its blocks in transformers, "
            "so parallel = 'tp' cannot be; allowed: 'auto' or 'none'"
        )
    parts = {**dict(_heads(model, plan)), **sizes}
    fewest = sorted(parts.items(), key=lambda part: part[1])[:_NAMED]
    reason = ", ".join(f"{name} {size}" for name, size in fewest)
    return Sharding(sharded, replicated, gcd(*parts.values()), reason)


def require_sharding(model: PreTrainedModel, itemsize: int, ranks: int) -> None:
    """Refuse a number of ranks that a model cannot be split over.

    Args:
        model: a causal LM.
        itemsize: bytes of a weight, as it will be loaded.
        ranks: how many would hold it.

    Raises:
        ConfigError: there is no plan, or the number does not divide what is cut.
    """
    sharding = sharding_of(model, itemsize)
    if sharding.divisor % ranks:
        allowed = ", ".join(map(str, sharding.allowed)) or "none but 1"
        raise ConfigError(
            f"parallel = 'tp' cannot share it out over {ranks} ranks ({sharding.reason}); allowed: "
            f"{allowed}"
        )


def _style(name: str, plan: dict[str, str]) -> str | None:
    """What a plan says of a parameter, by its own name or its module's."""
    generic = re.sub(r"\.\d+(?=\.|$)", ".*", name)
    return plan.get(generic, plan.get(generic.rpartition(".")[0]))


def _is_cut(style: str, name: str) -> bool:
    is_bias = name.endswith(".bias")
    return style in _CUTS and not (is_bias and "rowwise" in style)


def _parts(style: str, parameter: Tensor, piece: int) -> int:
    """How many parts a weight could be cut into at most, if so many columns stay together."""
    dimension, side_by_side = _CUTS[style]
    size = int(parameter.shape[-min(dimension, parameter.dim())])
    whole = side_by_side * piece
    return size // whole if size % whole == 0 else 1


def _heads(model: PreTrainedModel, plan: dict[str, str]) -> Iterator[tuple[str, int]]:
    """Attention heads, where the plan cuts what makes them: each must stay whole."""
    cut = [key.rsplit(".", 1)[-1] for key, style in plan.items() if style == "colwise" and _of(key)]
    config: Any = model.config.get_text_config(decoder=True)
    keys = {*cut} & {*_KEYS}
    for name, wanted in (("num_attention_heads", cut), ("num_key_value_heads", keys)):
        number = getattr(config, name, None)
        if wanted and isinstance(number, int):
            yield name, number


def _of(key: str) -> bool:
    """Whether a plan's key names a part of attention."""
    return "attn" in key or "attention" in key


def _short(name: str) -> str:
    """A weight's name without block number and `.weight`."""
    parts = [part for part in name.split(".") if not part.isdecimal() and part != "weight"]
    return ".".join(parts[-2:])
