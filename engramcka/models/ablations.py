"""The Engram module without one of its parts, at the same number of parameters.

The paper's ablations (section 6.2, Figure 5). A part that goes frees parameters, and further n-gram
orders or layers need some; the table rows are solved for, so that every variant has as many Engram
parameters as the model it is taken from. Plain arithmetic: knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engramcka.config.schema import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.allocation import engram_parameters, with_budget

ABLATIONS: Mapping[str, str] = {
    "multi-branch": "without multi-branch",
    "compression": "without token compression",
    "gating": "without gating",
    "convolution": "without short convolution",
    "4-grams": "with 4-grams",
    "two-layers": "over two layers",
}
"""Name in a config -> name in a figure."""

_OFF: dict[str, dict[str, Any]] = {
    "multi-branch": {"multi_branch": False},
    "compression": {"compression": False},
    "gating": {"gating": "none"},
    "convolution": {"convolution": False},
}


def moved(
    engram: EngramConfig, numbers: Mapping[str, Any], layers: tuple[int, ...]
) -> EngramConfig:
    """The modules at other layers, as many parameters in all as before.

    Args:
        engram: the modules.
        numbers: the backbone's config fields.
        layers: where they go, blocks counted from 1.
    """
    changed = engram.model_copy(update={"layers": layers})
    if len(layers) == len(engram.layers):
        return changed
    return with_budget(changed, numbers, engram_parameters(engram, numbers))


def ablated(
    engram: EngramConfig, numbers: Mapping[str, Any], name: str, split: tuple[int, ...] = ()
) -> EngramConfig:
    """The modules changed in one respect, as many parameters in all as before.

    Args:
        engram: the modules.
        numbers: the backbone's config fields.
        name: a key of `ABLATIONS`.
        split: layers of "two-layers"; the first of the model's and the middle block if left out.

    Raises:
        ConfigError: the model has not got what is to be taken away.
    """
    if name == "multi-branch" and numbers.get("hc_mult", 1) == 1:
        raise ConfigError("the model has one residual stream, so there are no branches to merge")
    changes = _OFF.get(name, {})
    if name == "4-grams" and 4 not in engram.orders:
        orders = (*engram.orders, 4)
        tables = len(orders) * engram.heads
        width = max(1, round(engram.d_mem / tables)) * tables  # nearest that splits over the tables
        changes = {"orders": orders, "d_mem": width}
    elif name == "two-layers":
        layers = split or (engram.layers[0], numbers["num_hidden_layers"] // 2)
        if layers[0] == layers[1]:
            raise ConfigError(f"both layers are {layers[0]}; name two with split")
        changes = {"layers": layers}
    changed = engram.model_copy(update=changes)
    if changed == engram:
        raise ConfigError("the model is like that already")
    budget = engram_parameters(engram, numbers)
    if engram_parameters(changed, numbers) == budget:
        return changed
    return with_budget(changed, numbers, budget)
