"""Stages sweep and allocation: one model trained again and again, and the losses as one result.

A sweep (paper, Figure 5) trains the model with its Engram module at one block after another, and
with its modules where they are but for one part. Every point but the baseline has as many Engram
parameters as the model.

An allocation sweep (paper, section 3.2 and Figure 3, left) trains it with fewer and fewer experts
and more and more memory. Every point has as many parameters in all as the model without memory.

A point that failed or is not there yet is NaN and named in a warning; the result counts as done
only when none is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.config import AllocationTable, Config, EngramConfig, SweepTable
from engramcka.errors import ConfigError
from engramcka.models.allocation import (
    ABLATIONS,
    Allocation,
    ablated,
    allocate,
    allocation_ratio,
    with_layers,
)
from engramcka.models.presets import find_preset
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.train import training_task
from engramcka.pipeline.tasks import Stage, Task
from engramcka.pipeline.trainings import TrainingSpec, retraining_damaged, training_spec
from engramcka.progress import TaskProgress
from engramcka.stores import layout, provenance, results

if TYPE_CHECKING:
    from engramcka.training import TrainingRecord

BASELINE = "baseline"
_MISSING = "missing"  # key of a stored result's inputs: trainings it was made without

Points = Mapping[str, Sequence[TrainingSpec]]  # name of a point -> its training for each seed


@dataclass(frozen=True)
class Losses:
    """What the trainings of some points gave, as far as they are there."""

    by_point: dict[str, tuple[float, ...]]  # nats a token, one a seed; NaN where missing
    parameters: dict[str, int]  # of the whole model; 0 where no training is there
    warnings: tuple[str, ...]  # one a missing training
    missing: list[str]  # their folders
    provenance: dict[str, Any]
    records: dict[str, list[TrainingRecord | None]] = field(default_factory=dict)  # one a seed

    def mean(self, point: str) -> float:
        """Mean over the seeds that are there, nats a token; NaN where none is."""
        import numpy as np

        from engramcka.results.statistics import mean_finite

        return float(mean_finite(np.array(self.by_point[point])))

    def interval(self, point: str, other: str) -> tuple[float, float]:
        """95 % interval of the mean loss of one point less that of another, nats a token.

        Over the validation documents, the same for both, and over seeds; NaN where a record of
        both does not say the losses by document.
        """
        import numpy as np

        from engramcka.results.statistics import paired_interval

        pairs = [
            (mine, its)
            for mine, its in zip(self.records[point], self.records[other], strict=True)
            if mine is not None and its is not None
        ]
        documents = {record.sequence_documents for pair in pairs for record in pair}
        if len(documents) != 1 or documents == {()}:
            return float("nan"), float("nan")
        losses = np.array([[m.sequence_losses, i.sequence_losses] for m, i in pairs])
        return paired_interval(losses[:, 0] - losses[:, 1], np.array(documents.pop()))


def _point_tasks(
    spec: RunSpec,
    table: SweepTable | AllocationTable,
    points: Points,
    stage: Stage,
    collect: Callable[[Context, Losses], Any],
) -> Iterator[Task]:
    """The trainings of all points, and the result made of their losses.

    Args:
        spec: the run.
        table: of the sweep; the result is results.zarr/STAGE/NAME.
        points: the trainings.
        stage: of all these tasks.
        collect: makes the result from the losses.
    """
    config, name = spec.config, table.name
    several = len(config.sweep) + len(config.allocation) > 1
    for point, trainings in points.items():
        for training in trainings:
            title = _title(point, training, trainings)
            yield training_task(spec, training, stage, f"{name}: {title}" if several else title)
    inputs = {
        "points": {point: [one.name for one in trainings] for point, trainings in points.items()},
        "label": config.label(table.model),
    }

    def work(context: Context, progress: TaskProgress) -> None:
        losses = read_losses(context.run, points, progress)
        made_from = {**inputs, _MISSING: losses.missing} if losses.missing else inputs
        results.write_result(context.results, name, collect(context, losses), made_from)

    yield Task(
        stage=stage,
        name=name,
        total=len(points),
        unit="points",
        inputs=inputs,
        is_done=partial(spec.is_stored, stage, name, inputs),
        work=work,
        uses=tuple(training.name for trainings in points.values() for training in trainings),
    )


def read_losses(run: Path, points: Points, progress: TaskProgress) -> Losses:
    """Read what the trainings of these points left."""
    from engramcka.training import read_record

    losses = Losses({}, {}, (), [], {"versions": provenance.versions()})
    facts: dict[str, Any] = {}
    warnings: list[str] = []
    for point, trainings in points.items():
        records = []
        for training in trainings:
            folder = run / layout.CHECKPOINTS / training.name
            with retraining_damaged(folder):
                records.append(read_record(folder))
        losses.records[point] = records
        there = [record for record in records if record is not None]
        losses.by_point[point] = tuple(
            record.validation_loss if record else float("nan") for record in records
        )
        losses.parameters[point] = there[0].parameters if there else 0
        for training, record in zip(trainings, records, strict=True):
            if record is None:
                losses.missing.append(training.name)
                title = _title(point, training, trainings)
                warnings.append(f"{title} is missing: it failed or is to do")
            else:
                facts[training.name] = _facts(point, training, record)
        progress.advance()
    losses.provenance["trainings"] = facts
    return replace(losses, warnings=tuple(warnings))


def _title(point: str, training: TrainingSpec, trainings: Sequence[TrainingSpec]) -> str:
    return f"{point}, seed {training.seed}" if len(trainings) > 1 else point


def _facts(point: str, training: TrainingSpec, record: TrainingRecord) -> dict[str, Any]:
    return {
        "point": point,
        "seed": training.seed,
        "parameters": record.parameters,
        "tokens": record.tokens,
        "device": record.device,
        "seconds": record.seconds,
        "validation_loss": record.validation_loss,
        "training_loss": record.training_loss,
    }


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
    return _point_tasks(spec, sweep, points.named(), "sweep", collect)


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


def _swept(config: Config, table: SweepTable | AllocationTable) -> tuple[str, EngramConfig]:
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
    return _point_tasks(spec, table, named, "allocation", collect)


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
