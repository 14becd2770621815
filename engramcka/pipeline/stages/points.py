"""Trainings of one model, one for each point and seed of a sweep, and their losses.

A point that failed or is not there yet is NaN and named in a warning; the result counts as done
only when none is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.config.training_tables import RetrainedTable
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.train import training_task
from engramcka.pipeline.tasks import Stage, Task
from engramcka.pipeline.trainings import TrainingSpec, retraining_damaged
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


def point_tasks(
    spec: RunSpec,
    table: RetrainedTable,
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
    several = len(config.sweeps) > 1
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
