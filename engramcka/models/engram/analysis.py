"""What a model with our Engram modules is asked for: its gates, its parameters.

`parameter_groups` says which parameters an optimiser treats how: tables learn at five times the
rate, without weight decay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from engramcka.models.engram.module import Engram
from engramcka.models.engram.tables import EngramMemory
from engramcka.models.hooks import PassHooks

TABLE_RATE = 5.0
"""Learning rate of Engram tables over the base rate (paper, section 4.1)."""


def engram_modules(model: nn.Module) -> dict[int, Engram]:
    """The Engram modules of a model by layer, counted from 1; empty if it has none."""
    return {
        int(name.rpartition(".")[2]): module
        for name, module in model.named_modules()
        if isinstance(module, Engram)
    }


@contextmanager
def read_gates(model: nn.Module) -> Iterator[dict[int, list[Tensor]]]:
    """Collect gates: layer (from 1) -> one (B, T, M) float tensor in [0, 1] a forward pass.

    Values at padded positions mean nothing. A module with gating "none" has no gate and is left
    out (paper, figure 7).
    """
    gates: dict[int, list[Tensor]] = defaultdict(list)
    points = {
        layer: module.gate
        for layer, module in engram_modules(model).items()
        if module.gate is not None
    }
    with PassHooks(points, lambda layer, alpha: gates[layer].append(alpha.detach())):
        yield gates


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
