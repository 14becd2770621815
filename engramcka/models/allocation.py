"""Sizes of Engram modules at a given number of parameters; arithmetic that loads no torch.

A mixture of experts has parameters that a token does not use: its inactive experts. The allocation
ratio rho is the experts' share of the inactive parameters,

    rho = inactive experts / (inactive experts + Engram tables)

(paper, sections 3 and 4.1: 72 experts of which 55 stay give rho = 74.3 %). `allocate` solves for
the expert count and the table rows, so that the total stays that of the mixture of experts alone.

`ablated` and `with_layers` change the modules (paper, section 6.2, Figure 5) and solve for the
table rows in the same way: a part that is taken away frees parameters, further n-gram orders or
layers need some, and every variant has as many Engram parameters as the model it is made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from math import isqrt
from typing import Any

import numpy as np

from engramcka.config.model_tables import EngramConfig
from engramcka.errors import ConfigError

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


def primes_from(start: int) -> Iterator[int]:
    """Primes from ``start`` upwards, ``start`` included, without end."""
    for candidate in count(max(start, 2)):
        if (candidate % np.arange(2, isqrt(candidate) + 1)).all():
            yield candidate


@dataclass(frozen=True)
class Allocation:
    """A division of the budget.

    Attributes:
        experts: routed experts a block.
        engram: the modules, table rows solved for.
    """

    experts: int
    engram: EngramConfig


def expert_parameters(numbers: Mapping[str, Any]) -> int:
    """Parameters of one routed expert and its router row in every block that has experts."""
    width = numbers["hidden_size"]
    blocks = numbers["num_hidden_layers"] - numbers["first_k_dense_replace"]
    return blocks * (3 * width * numbers["moe_intermediate_size"] + width)


def table_rows(engram: EngramConfig) -> int:
    """Rows of all tables; each table's is a prime, so a little over table_size."""
    tables = len(engram.orders) * engram.heads * len(engram.layers)
    return sum(islice(primes_from(engram.table_size), tables))


def table_parameters(engram: EngramConfig) -> int:
    """Parameters of all tables."""
    return table_rows(engram) * engram.d_mem // (len(engram.orders) * engram.heads)


def fusion_parameters(engram: EngramConfig, hidden_size: int, streams: int) -> int:
    """Parameters of all modules beside their tables: projections, norms, convolution."""
    branches = streams if engram.multi_branch else 1
    value = engram.d_mem * hidden_size
    gate = 0 if engram.gating == "none" else branches * (engram.d_mem + 2) * hidden_size
    convolution = branches * hidden_size * (1 + engram.kernel_size) if engram.convolution else 0
    return len(engram.layers) * (value + gate + convolution)


def engram_parameters(engram: EngramConfig, numbers: Mapping[str, Any]) -> int:
    """Parameters of all modules on a backbone with these config fields, tables and all."""
    fusion = fusion_parameters(engram, numbers["hidden_size"], numbers.get("hc_mult", 1))
    return table_parameters(engram) + fusion


def with_budget(engram: EngramConfig, numbers: Mapping[str, Any], parameters: int) -> EngramConfig:
    """The modules with table_size such that they have ``parameters`` in all, or nearest to it.

    Raises:
        ConfigError: not even two rows a table fit.
    """
    fusion = fusion_parameters(engram, numbers["hidden_size"], numbers.get("hc_mult", 1))
    return with_tables(engram, parameters - fusion)


def with_tables(engram: EngramConfig, parameters: int) -> EngramConfig:
    """The modules with table_size such that all tables together come nearest to ``parameters``.

    Raises:
        ConfigError: not even two rows a table fit.
    """
    low, high = 2, max(3, parameters // (engram.d_mem * len(engram.layers)) + 1)
    if table_parameters(engram.model_copy(update={"table_size": low})) > parameters:
        raise ConfigError(
            f"{parameters:,} parameters are too few for the tables of {len(engram.layers)} Engram "
            f"modules with d_mem = {engram.d_mem}; take a larger model or a smaller d_mem"
        )
    while high - low > 1:
        middle = (low + high) // 2
        fits = table_parameters(engram.model_copy(update={"table_size": middle})) <= parameters
        low, high = (middle, high) if fits else (low, middle)
    candidates = [engram.model_copy(update={"table_size": size}) for size in (low, high)]
    return min(candidates, key=lambda c: abs(table_parameters(c) - parameters))


def allocate(numbers: Mapping[str, Any], engram: EngramConfig, rho: float) -> Allocation:
    """Experts and tables at this rho, the total as near as can be to the experts' alone.

    Args:
        numbers: the backbone's config fields, with all its experts.
        engram: modules; their table_size is replaced.
        rho: share of the experts in the inactive parameters, 0 < rho < 1.

    Raises:
        ConfigError: no expert can be freed at this rho, or the freed ones are too few.
    """
    experts, active = numbers["n_routed_experts"], numbers["num_experts_per_tok"]
    kept = active + round(rho * (experts - active))
    if kept >= experts:
        raise ConfigError(f"rho = {rho}: it leaves all {experts} experts in place and no tables")
    freed = (experts - kept) * expert_parameters(numbers)
    return Allocation(kept, with_budget(engram, numbers, freed))


def allocation_ratio(numbers: Mapping[str, Any], division: Allocation) -> float:
    """The rho that a division really has; experts are whole, so not quite the one asked for.

    Args:
        numbers: the backbone's config fields.
        division: experts left and tables.
    """
    width = numbers["hidden_size"]
    blocks = numbers["num_hidden_layers"] - numbers["first_k_dense_replace"]
    expert = blocks * 3 * width * numbers["moe_intermediate_size"]
    experts = expert * (division.experts - numbers["num_experts_per_tok"])
    return float(experts / (experts + table_parameters(division.engram)))


def with_layers(
    engram: EngramConfig, numbers: Mapping[str, Any], layers: tuple[int, ...]
) -> EngramConfig:
    """The modules at other layers, with as many parameters in all as before.

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
    """The modules changed in one respect, with as many parameters in all as before.

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
