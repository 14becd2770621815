"""Sizes of Engram modules at a given number of parameters; arithmetic that loads no torch.

A mixture of experts has parameters that a token does not use: its inactive experts. The allocation
ratio rho is the experts' share of the inactive parameters,

    rho = inactive experts / (inactive experts + Engram tables)

(paper, sections 3 and 4.1: 72 experts of which 55 stay give rho = 74.3 %). `allocate` solves for
the expert count and the table rows, so that the total stays that of the mixture of experts alone.

`ablated` and `with_layers` change the modules (paper, section 6.2, Figure 5) at as many Engram
parameters. A part that is taken away frees some and further n-gram orders need some: the table
rows are solved for in the same way. A memory that is split over more modules, or drawn together in
fewer, keeps its rows and changes its width d_mem, as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from math import isqrt
from typing import Any

import numpy as np

from engramcka.config.memory_tables import EngramConfig
from engramcka.errors import ConfigError

ABLATIONS: Mapping[str, str] = {
    "multi-branch": "without multi-branch",
    "compression": "without token compression",
    "gating": "without gating",
    "convolution": "without short convolution",
    "4-grams": "with 4-grams",
    "two-layers": "over two layers",
    "one-row": "one row a table",
    "unkeyed-rows": "rows without a key",
    "random-rows": "rows not trained",
    "constant-gate": "with a constant gate",
    "no-table": "without a table",
}
"""Name in a config -> name in a figure."""

_OFF: dict[str, dict[str, Any]] = {
    "multi-branch": {"fusion": "pre-mapping"},
    "compression": {"compression": False},
    "gating": {"gating": "none"},
    "convolution": {"convolution": False},
    "one-row": {"control": "one-row"},
    "unkeyed-rows": {"control": "unkeyed-rows"},
    "random-rows": {"control": "random-rows"},
    "constant-gate": {"gating": "constant"},
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


def table_primes(engram: EngramConfig) -> dict[int, list[int]]:
    """Rows of each table: layer -> one prime an order (ascending) and head, no two alike.

    A head takes the next prime from its order's table_size that no head before it has. Layers take
    turns from the first on; as they are listed where ``hashing`` is the authors'.
    """
    taken: set[int] = set()
    unused = {
        size: (prime for prime in primes_from(size) if prime not in taken)
        for size in engram.sizes.values()
    }
    layers = engram.layers if engram.hashing == "authors" else sorted(engram.layers)
    found: dict[int, list[int]] = {}
    for layer in layers:
        found[layer] = []
        for size in engram.sizes.values():
            for _ in range(engram.heads):
                prime = next(unused[size])
                taken.add(prime)
                found[layer].append(prime)
    return found


def table_rows(engram: EngramConfig) -> int:
    """Rows of all tables; each table's is a prime, so a little over table_size."""
    return sum(map(sum, table_primes(engram).values()))


def table_parameters(engram: EngramConfig) -> int:
    """Parameters of all tables."""
    if engram.control == "no-table":
        return 0
    return table_rows(engram) * engram.d_mem // (len(engram.orders) * engram.heads)


def fusion_parameters(engram: EngramConfig, hidden_size: int, streams: int) -> int:
    """Parameters of all modules beside their tables: projections, norms, convolution."""
    branches = streams if engram.fusion == "streams" else 1
    value = engram.d_mem * hidden_size
    gate = branches * (engram.d_mem + 2) * hidden_size
    gate = {"none": 0, "constant": branches}.get(engram.gating, gate)
    instead = engram.d_mem * hidden_size if engram.control == "no-table" else 0
    convolution = branches * hidden_size * (1 + engram.kernel_size) if engram.convolution else 0
    return len(engram.layers) * (value + gate + instead + convolution)


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

    Sizes of several orders keep their ratios.

    Raises:
        ConfigError: not even two rows a table fit.
    """
    largest = max(engram.sizes.values())

    def sized(rows: int) -> EngramConfig:
        """With so many rows in the largest tables."""
        given = engram.table_size
        if isinstance(given, int):
            return engram.model_copy(update={"table_size": rows})
        scaled = tuple(max(2, round(size * rows / largest)) for size in given)
        return engram.model_copy(update={"table_size": scaled})

    low = 2
    high = max(3, len(engram.orders) * parameters // (engram.d_mem * len(engram.layers)) + 1)
    if table_parameters(sized(low)) > parameters:
        raise ConfigError(
            f"{parameters:,} parameters are too few for the tables of {len(engram.layers)} Engram "
            f"modules with d_mem = {engram.d_mem}; take a larger model or a smaller d_mem"
        )
    while high - low > 1:
        middle = (low + high) // 2
        fits = table_parameters(sized(middle)) <= parameters
        low, high = (middle, high) if fits else (low, middle)
    candidates = [sized(rows) for rows in (low, high)]
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
    """The memory at other layers: the rows a head as before, d_mem shared out over the modules.

    So the paper divides its 1.6B over layers 2 and 6 (section 6.2). Further modules bring norms, a
    convolution and larger primes of their own, so parameters are those of before to within 3 % in
    a model of a million, 0.01 % at the paper's size. Where d_mem does not split over tables and
    modules it becomes the nearest width that does, and the rows are solved for.

    Args:
        engram: the modules.
        numbers: the backbone's config fields.
        layers: where they go, blocks counted from 1.

    Raises:
        ConfigError: the rows that are left are too few.
    """
    whole = engram.d_mem * len(engram.layers)
    tables = len(engram.orders) * engram.heads
    width = max(1, round(whole / len(layers) / tables)) * tables
    changed = engram.model_copy(update={"layers": layers, "d_mem": width})
    if width * len(layers) == whole:
        return changed
    return with_budget(changed, numbers, engram_parameters(engram, numbers))


def without_table(
    engram: EngramConfig, numbers: Mapping[str, Any], parameters: int
) -> EngramConfig:
    """The modules with a projection of the stream in place of the rows, as wide as it takes.

    Args:
        engram: the modules.
        numbers: the backbone's config fields.
        parameters: of all modules together, or nearest to it.
    """
    tables = len(engram.orders) * engram.heads
    changed = engram.model_copy(update={"control": "no-table", "d_mem": tables})
    one = engram_parameters(changed, numbers)
    more = engram_parameters(changed.model_copy(update={"d_mem": 2 * tables}), numbers) - one
    steps = max(0, round((parameters - one) / more))
    return changed.model_copy(update={"d_mem": tables * (1 + steps)})


def ablated(
    engram: EngramConfig, numbers: Mapping[str, Any], name: str, split: tuple[int, ...] = ()
) -> EngramConfig:
    """The modules changed in one respect, with as many parameters in all as before.

    "two-layers" and "no-table" change d_mem (see `with_layers` and `without_table`), everything
    else the rows of the tables.

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
        if isinstance(engram.table_size, tuple):
            changes["table_size"] = (*engram.table_size, max(engram.table_size))
    elif name == "two-layers":
        layers = split or (engram.layers[0], numbers["num_hidden_layers"] // 2)
        if layers[0] == layers[1]:
            raise ConfigError(f"both layers are {layers[0]}; name two with split")
        if set(layers) == set(engram.layers):
            raise ConfigError("the model is like that already")
        return with_layers(engram, numbers, layers)
    budget = engram_parameters(engram, numbers)
    if name == "no-table" and engram.control != "no-table":
        return without_table(engram, numbers, budget)
    changed = engram.model_copy(update=changes)
    if changed == engram:
        raise ConfigError("the model is like that already")
    if engram_parameters(changed, numbers) == budget:
        return changed
    return with_budget(changed, numbers, budget)
