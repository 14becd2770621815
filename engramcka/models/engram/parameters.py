"""Which parameters an optimiser treats how: tables learn at five times the rate, undecayed."""

from __future__ import annotations

from typing import Any

from torch import nn

from engramcka.models.engram.memory import EngramMemory

TABLE_RATE = 5.0
"""Learning rate of Engram tables over the base rate (paper, section 4.1)."""


def is_table_parameter(model: nn.Module, name: str) -> bool:
    """Whether the parameter of this name is an Engram module's table."""
    owner, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(owner), EngramMemory)


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimiser; each also has a ``name``.

    ``engram-tables``: 5 x the rate, no decay. ``matrices``: weights of two and more axes except
    embeddings, decayed. ``rest``: embeddings, norms and biases, no decay. Empty groups are left
    out; parameters that need no gradient too.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[str, list[nn.Parameter]] = {"engram-tables": [], "matrices": [], "rest": []}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if is_table_parameter(model, name):
            kind = "engram-tables"
        elif parameter.dim() >= 2 and id(parameter) not in embeddings and not _is_vector(name):
            kind = "matrices"
        else:
            kind = "rest"
        groups[kind].append(parameter)
    rates = {"engram-tables": TABLE_RATE * learning_rate}
    decays = {"matrices": weight_decay}
    return [
        {
            "name": name,
            "params": parameters,
            "lr": rates.get(name, learning_rate),
            "weight_decay": decays.get(name, 0.0),
        }
        for name, parameters in groups.items()
        if parameters
    ]


def _is_vector(name: str) -> bool:
    """Norms of several streams are stacked vectors, and so is the depthwise convolution."""
    return name.startswith("engrams.") and (name.endswith("norm") or ".convolution." in name)
