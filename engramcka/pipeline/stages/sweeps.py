"""Stages sweep, allocation and slots: one model trained again and again, its losses one result.

A sweep (paper, Figure 5) trains the model with its Engram module at one block after another, and
with its modules where they are but for one part. Every point but the baseline has as many Engram
parameters as the model.

An allocation sweep (paper, section 3.2 and Figure 3, left) trains it with fewer and fewer experts
and more and more memory. Every point has as many parameters in all as the model without memory.

A slot sweep (Figure 3, right) trains it with larger and larger tables, and nothing else changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from engramcka.config import AllocationTable, EngramConfig, SlotsTable, SweepTable
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
from engramcka.pipeline.backbones import Backbone
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
    whole: list[TrainingSpec]  # of the model itself, which is a point where it is among those above

    @property
    def whole_point(self) -> str | None:
        """The point that the model itself is; None where no point trains it as it is."""
        of_model = [training.name for training in self.whole]
        points = self.named().items()
        return next((n for n, one in points if [t.name for t in one] == of_model), None)

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
    points = _sweep_points(spec, sweep)
    collect = partial(_collect_sweep, sweep=sweep, points=points)
    return point_tasks(spec, sweep, points.named(), "sweep", collect)


def _sweep_points(spec: RunSpec, sweep: SweepTable) -> SweepPoints:
    config = spec.config
    backbone, engram = _swept(spec, sweep)
    numbers = backbone.numbers
    layers = sweep.layers
    if layers == "all":
        layers = tuple(range(1, numbers["num_hidden_layers"] + 1))

    def trainings(backbone: Backbone, engram: EngramConfig | None) -> list[TrainingSpec]:
        return [training_spec(config, backbone, engram, seed) for seed in config.seeds(sweep)]

    references: dict[str, list[TrainingSpec]] = {}
    for name in sweep.references:
        other = spec.trainings[name]
        references[config.label(name)] = trainings(other.backbone, other.engram)
    return SweepPoints(
        {layer: trainings(backbone, with_layers(engram, numbers, (layer,))) for layer in layers},
        trainings(backbone, None) if sweep.baseline else [],
        {
            ABLATIONS[name]: trainings(backbone, _ablated(spec, sweep, name))
            for name in sweep.ablations
        },
        references,
        trainings(backbone, engram),
    )


def _swept(spec: RunSpec, table: RetrainedTable) -> tuple[Backbone, EngramConfig]:
    """The backbone of the model that is swept, and its Engram modules."""
    training = spec.trainings[table.model]
    assert training.engram is not None, "checked when the config was loaded"
    return training.backbone, training.engram


def _ablated(spec: RunSpec, sweep: SweepTable, name: str) -> EngramConfig:
    backbone, engram = _swept(spec, sweep)
    try:
        return ablated(engram, backbone.numbers, name, sweep.split or ())
    except ConfigError as error:
        path = ("sweep", spec.config.sweep.index(sweep), "ablations")
        raise spec.config.error(path, f"{name!r} of {sweep.model}: {error}") from error


def _collect_sweep(
    context: Context, losses: Losses, *, sweep: SweepTable, points: SweepPoints
) -> Any:
    """The losses of a sweep's trainings as a result."""
    import numpy as np

    from engramcka.results import LossSweep
    from engramcka.results.statistics import mean_finite

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
    whole = points.whole_point or ""
    differences = {}
    for name in points.variants if whole else ():
        low, high = losses.interval(name, whole)
        if np.isfinite(low):
            less = np.subtract(found[name], found[whole])
            differences[name] = (float(mean_finite(less)), low, high)
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
        variant_differences=differences,
        whole=whole.removeprefix("reference ") if differences else "",
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
    points = _allocation_points(spec, table)
    named = {point.name: point.trainings for point in points}
    numbers = _swept(spec, table)[0].numbers
    collect = partial(_collect_allocation, table=table, points=points, numbers=numbers)
    return point_tasks(spec, table, named, "allocation", collect)


def _allocation_points(spec: RunSpec, table: AllocationTable) -> list[AllocationPoint]:
    config = spec.config
    backbone, _ = _swept(spec, table)
    points = []
    for rho in table.rho:
        division = None if rho == 1.0 else _divide(spec, table, rho)
        engram, experts = (division.engram, division.experts) if division else (None, None)
        trainings = [
            training_spec(config, backbone, engram, seed, experts) for seed in config.seeds(table)
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


def _divide(spec: RunSpec, table: AllocationTable, rho: float) -> Allocation:
    backbone, engram = _swept(spec, table)
    try:
        return allocate(backbone.numbers, engram, rho)
    except ConfigError as error:
        path = ("allocation", spec.config.allocation.index(table), "rho")
        raise spec.config.error(path, str(error)) from error


def _collect_allocation(
    context: Context,
    losses: Losses,
    *,
    table: AllocationTable,
    points: Sequence[AllocationPoint],
    numbers: Mapping[str, Any],
) -> Any:
    """The losses of an allocation sweep's trainings as a result, by the rho that resulted."""
    import numpy as np

    from engramcka.results import AllocationSweep

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
    backbone, engram = _swept(spec, table)
    sizes = {f"table_size {size}": size for size in table.table_size}
    modules = {name: engram.model_copy(update={"table_size": size}) for name, size in sizes.items()}
    points: Points = {
        name: [training_spec(config, backbone, one, seed) for seed in config.seeds(table)]
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
