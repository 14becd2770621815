"""Stages sweep, allocation and slots: one model trained again and again, its losses one result.

A sweep (paper, Figure 5) trains the model with its Engram module at one block after another, and
with its modules where they are but for one part. Every point but the baseline has as many Engram
parameters as the model.

An allocation sweep (paper, section 3.2 and Figure 3, left) trains it with fewer and fewer experts
and more and more memory. Every point has as many parameters in all as the model without memory.

A slot sweep (Figure 3, right) trains it with larger and larger tables, and nothing else changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engramcka.config import AllocationTable, Config, EngramConfig, SlotsTable, SweepTable
from engramcka.config.training_tables import RetrainedTable
from engramcka.errors import ConfigError
from engramcka.models.allocation import (
    ABLATIONS,
    Allocation,
    ablated,
    allocate,
    allocation_ratio,
    table_rows,
    with_layers,
)
from engramcka.models.presets import find_preset
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.points import BASELINE, Losses, Points, point_tasks
from engramcka.pipeline.tasks import Task
from engramcka.pipeline.trainings import TrainingSpec, training_spec


@dataclass(frozen=True)
class SweepPoints:
    """The trainings of a sweep, one for each seed."""

    layers: dict[int, list[TrainingSpec]]  # by insertion layer
    baseline: list[TrainingSpec]  # empty if it is not asked for
    variants: dict[str, list[TrainingSpec]]  # ablations by their names in a figure
    references: dict[str, list[TrainingSpec]]  # other models by their labels

    def named(self) -> dict[str, list[TrainingSpec]]:
        """All of them by their names in messages, in the order they are trained."""
        return {
            **({BASELINE: self.baseline} if self.baseline else {}),
            **{f"layer {layer}": trainings for layer, trainings in self.layers.items()},
            **self.variants,
            **{f"reference {name}": one for name, one in self.references.items()},
        }


def sweep_tasks(spec: RunSpec, sweep: SweepTable) -> Iterator[Task]:
    """The trainings of a sweep, and the result made of them.

    Raises:
        ConfigError: an ablation that the model cannot have.
    """
    points = _sweep_points(spec.config, sweep)
    collect = partial(_collect_sweep, sweep=sweep, points=points)
    return point_tasks(spec, sweep, points.named(), "sweep", collect)


def _sweep_points(config: Config, sweep: SweepTable) -> SweepPoints:
    preset, engram = _swept(config, sweep)
    numbers = find_preset(preset).numbers
    layers = sweep.layers
    if layers == "all":
        layers = tuple(range(1, numbers["num_hidden_layers"] + 1))

    def trainings(preset: str, engram: EngramConfig | None) -> list[TrainingSpec]:
        return [training_spec(config, preset, engram, seed) for seed in config.seeds(sweep)]

    references: dict[str, list[TrainingSpec]] = {}
    for name in sweep.references:
        other = config.trained(name)
        references[config.label(name)] = trainings(other.preset, other.engram)
    return SweepPoints(
        {layer: trainings(preset, with_layers(engram, numbers, (layer,))) for layer in layers},
        trainings(preset, None) if sweep.baseline else [],
        {
            ABLATIONS[name]: trainings(preset, _ablated(config, sweep, name))
            for name in sweep.ablations
        },
        references,
    )


def _swept(config: Config, table: RetrainedTable) -> tuple[str, EngramConfig]:
    """The preset of the model that is swept, and its Engram modules."""
    model = config.trained(table.model)
    assert model.engram is not None, "checked when the config was loaded"
    return model.preset, model.engram


def _ablated(config: Config, sweep: SweepTable, name: str) -> EngramConfig:
    preset, engram = _swept(config, sweep)
    try:
        return ablated(engram, find_preset(preset).numbers, name, sweep.split or ())
    except ConfigError as error:
        path = ("sweep", config.sweep.index(sweep), "ablations")
        raise config.error(path, f"{name!r} of {sweep.model}: {error}") from error


def _collect_sweep(
    context: Context, losses: Losses, *, sweep: SweepTable, points: SweepPoints
) -> Any:
    """The losses of a sweep's trainings as a result."""
    import numpy as np

    from engramcka.results import LossSweep

    found = losses.by_point
    references = {
        name: found[f"reference {name}"]
        for name in points.references
        if np.isfinite(losses.mean(f"reference {name}"))
    }
    ends = {}
    if points.baseline:
        intervals = [losses.interval(f"layer {layer}", BASELINE) for layer in points.layers]
        if np.isfinite(intervals).any():
            ends = dict(
                zip(("difference_low", "difference_high"), np.array(intervals).T, strict=True)
            )
    return LossSweep(
        layers=tuple(points.layers),
        loss=np.array([found[f"layer {layer}"] for layer in points.layers]),
        baseline=np.array(found.get(BASELINE, ())),
        seeds=context.config.seeds(sweep),
        label=context.config.label(sweep.model),
        reference={name: losses.mean(f"reference {name}") for name in references},
        reference_losses=references,
        variants={name: losses.mean(name) for name in points.variants},
        variant_losses={name: found[name] for name in points.variants},
        **ends,
        warnings=losses.warnings,
        provenance=losses.provenance,
    )


@dataclass(frozen=True)
class AllocationPoint:
    """One share of the sparse parameters that experts keep, and the trainings there."""

    rho: float  # as the config asks for it
    division: Allocation | None  # None: all of them to the experts
    trainings: list[TrainingSpec]  # one for each seed

    @property
    def name(self) -> str:
        """The point in messages."""
        return f"rho {self.rho:g}"


def allocation_tasks(spec: RunSpec, table: AllocationTable) -> Iterator[Task]:
    """The trainings of an allocation sweep, and the result made of them.

    Raises:
        ConfigError: the model has no experts to give up, or a rho leaves no room for memory.
    """
    points = _allocation_points(spec.config, table)
    named = {point.name: point.trainings for point in points}
    collect = partial(_collect_allocation, table=table, points=points)
    return point_tasks(spec, table, named, "allocation", collect)


def _allocation_points(config: Config, table: AllocationTable) -> list[AllocationPoint]:
    preset, _ = _swept(config, table)
    points = []
    for rho in table.rho:
        division = None if rho == 1.0 else _divide(config, table, rho)
        engram, experts = (division.engram, division.experts) if division else (None, None)
        trainings = [
            training_spec(config, preset, engram, seed, experts) for seed in config.seeds(table)
        ]
        points.append(AllocationPoint(rho, division, trainings))
    kept = [point.division.experts for point in points if point.division]
    if len(set(kept)) < len(kept):
        raise config.error(
            ("allocation", config.allocation.index(table), "rho"),
            f"two of {list(table.rho)} leave as many experts a block ({kept})",
            "allowed: values far enough apart, or a preset with more experts",
        )
    return points


def _divide(config: Config, table: AllocationTable, rho: float) -> Allocation:
    preset, engram = _swept(config, table)
    try:
        return allocate(find_preset(preset).numbers, engram, rho)
    except ConfigError as error:
        path = ("allocation", config.allocation.index(table), "rho")
        raise config.error(path, str(error)) from error


def _collect_allocation(
    context: Context, losses: Losses, *, table: AllocationTable, points: Sequence[AllocationPoint]
) -> Any:
    """The losses of an allocation sweep's trainings as a result, by the rho that resulted."""
    import numpy as np

    from engramcka.results import AllocationSweep

    numbers = find_preset(_swept(context.config, table)[0]).numbers
    divisions = [point.division for point in points]
    return AllocationSweep(
        rho=np.array(
            [allocation_ratio(numbers, division) if division else 1.0 for division in divisions]
        ),
        loss=np.array([losses.by_point[point.name] for point in points]),
        seeds=context.config.seeds(table),
        experts=tuple(
            division.experts if division else numbers["n_routed_experts"] for division in divisions
        ),
        parameters=tuple(losses.parameters[point.name] for point in points),
        label=context.config.label(table.model),
        warnings=losses.warnings,
        provenance={**losses.provenance, "rho_asked_for": [point.rho for point in points]},
    )


def slots_tasks(spec: RunSpec, table: SlotsTable) -> Iterator[Task]:
    """The trainings of a slot sweep, and the result made of them."""
    config = spec.config
    preset, engram = _swept(config, table)
    sizes = {f"table_size {size}": size for size in table.table_size}
    modules = {name: engram.model_copy(update={"table_size": size}) for name, size in sizes.items()}
    points: Points = {
        name: [training_spec(config, preset, one, seed) for seed in config.seeds(table)]
        for name, one in {**({BASELINE: None} if table.baseline else {}), **modules}.items()
    }
    return point_tasks(spec, table, points, "slots", partial(_collect_slots, table, modules))


def _collect_slots(
    table: SlotsTable, modules: dict[str, EngramConfig], context: Context, losses: Losses
) -> Any:
    """The losses of a slot sweep's trainings as a result, by the rows of all tables."""
    import numpy as np

    from engramcka.results import SlotSweep

    return SlotSweep(
        slots=np.array([table_rows(engram) for engram in modules.values()]),
        loss=np.array([losses.by_point[name] for name in modules]),
        baseline=np.array(losses.by_point.get(BASELINE, ())),
        seeds=context.config.seeds(table),
        parameters=tuple(losses.parameters[name] for name in modules),
        label=context.config.label(table.model),
        warnings=losses.warnings,
        provenance=losses.provenance,
    )
