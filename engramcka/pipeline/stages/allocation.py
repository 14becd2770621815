"""Stage allocation: a model with fewer and fewer experts and more and more memory.

At every point the parameters in all are those of the model without memory (paper, section 3.2 and
Figure 3, left).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import AllocationTable, Config, TrainedModel
from engramcka.errors import ConfigError
from engramcka.models.allocation import Allocation, allocate, allocation_ratio
from engramcka.models.presets import find_preset
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.points import Losses, point_pieces
from engramcka.pipeline.units import Unit, unit_of


def allocation_pieces(
    config: Config, run: Path, table: AllocationTable, seen: set[str]
) -> Iterator[Piece]:
    """The trainings of an allocation sweep that are not there yet, and the result made of them.

    Raises:
        ConfigError: the model has no experts to give up, or a rho leaves no room for memory.
    """
    points = allocation_points(config, table)
    return point_pieces(
        config,
        run,
        {_name(rho): units for rho, (_, units) in points.items()},
        stage="allocation",
        name=table.name,
        label=config.label(table.model),
        collect=partial(collect_allocation, table=table, points=points),
        seen=seen,
    )


Points = dict[float, tuple[Allocation | None, list[Unit]]]


def allocation_points(config: Config, table: AllocationTable) -> Points:
    """The division and the trainings at every rho of the table; None: all of it to experts."""
    model = config.models[table.model]
    assert isinstance(model, TrainedModel)
    points: Points = {}
    for rho in table.rho:
        division = None if rho == 1.0 else _divide(config, table, rho)
        engram, experts = (division.engram, division.experts) if division else (None, None)
        units = [
            unit_of(config, model.preset, engram, seed, experts) for seed in config.seeds(table)
        ]
        points[rho] = (division, units)
    kept = [division.experts for division, _ in points.values() if division]
    if len(set(kept)) < len(kept):
        raise config.error(
            ("allocation", config.allocation.index(table), "rho"),
            f"two of {list(table.rho)} leave as many experts a block ({kept})",
            "allowed: values far enough apart, or a preset with more experts",
        )
    return points


def _divide(config: Config, table: AllocationTable, rho: float) -> Allocation:
    model = config.models[table.model]
    assert isinstance(model, TrainedModel)
    assert model.engram is not None, "checked when the config was loaded"
    try:
        return allocate(find_preset(model.preset).numbers, model.engram, rho)
    except ConfigError as error:
        path = ("allocation", config.allocation.index(table), "rho")
        raise config.error(path, str(error)) from error


def _name(rho: float) -> str:
    return f"rho {rho:g}"


def collect_allocation(
    context: Context, losses: Losses, *, table: AllocationTable, points: Points
) -> Any:
    """The losses of an allocation sweep's trainings as a result, by the rho that came about."""
    import numpy as np

    from engramcka.results import AllocationSweep

    model = context.config.models[table.model]
    assert isinstance(model, TrainedModel)
    numbers = find_preset(model.preset).numbers
    return AllocationSweep(
        rho=np.array(
            [
                allocation_ratio(numbers, division) if division else 1.0
                for division, _ in points.values()
            ]
        ),
        loss=np.array([losses.by_point[_name(rho)] for rho in points]),
        seeds=context.config.seeds(table),
        experts=tuple(
            division.experts if division else numbers["n_routed_experts"]
            for division, _ in points.values()
        ),
        parameters=tuple(losses.parameters[_name(rho)] for rho in points),
        label=context.config.label(table.model),
        warnings=losses.warnings,
        provenance={**losses.provenance, "rho_asked_for": list(points)},
    )
