"""Trainings whose validation losses make one result: the pieces that train them, and the losses.

A point that failed or is not there yet is NaN and named in a warning; the result counts as made
only when none is missing. Knows nothing of what the points mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.config import Config
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece, Stage
from engramcka.pipeline.stages.train import retraining_damaged, unit_piece
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.stores import layout, provenance, results

if TYPE_CHECKING:
    from engramcka.training import TrainingRecord

Points = Mapping[str, Sequence[Unit]]  # what a person calls a point -> its training for each seed

_MISSING = "missing"  # key of a stored result's inputs: trainings it was made without


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


def point_pieces(
    config: Config,
    run: Path,
    points: Points,
    *,
    stage: Stage,
    name: str,
    label: str,
    collect: Callable[[Context, Losses], Any],
    seen: set[str],
) -> Iterator[Piece]:
    """The trainings that no piece before makes, and the result made of all of them.

    Args:
        config: the run.
        run: its folder.
        points: the trainings.
        stage: of all these pieces; the result is results.zarr/STAGE/NAME.
        name: of the result.
        label: of the swept model; a result under another label is made anew.
        collect: makes the result from the losses.
        seen: folders of trainings that have a piece; those made here are added.
    """
    several = len(config.sweep) + len(config.allocation) > 1
    for point, units in points.items():
        for unit in units:
            title = _title(point, unit, units)
            yield from unit_piece(
                config, run, unit, stage, f"{name}: {title}" if several else title, seen
            )
    inputs = {
        "points": {point: [unit.name for unit in units] for point, units in points.items()},
        "label": label,
    }
    path = run / layout.RESULTS

    def work(context: Context, task: Task) -> None:
        losses = read_losses(context.run, points, task)
        made_from = {**inputs, _MISSING: losses.missing} if losses.missing else inputs
        results.write_result(context.results, name, collect(context, losses), made_from)

    yield Piece(
        stage=stage,
        name=name,
        total=len(points),
        unit="points",
        inputs=inputs,
        is_done=lambda: results.read_inputs(path, stage, name) == inputs,
        work=work,
        uses=tuple(unit.name for units in points.values() for unit in units),
    )


def read_losses(run: Path, points: Points, task: Task) -> Losses:
    """Gather what the trainings of these points left."""
    from engramcka.training import read_record

    losses = Losses({}, {}, (), [], {"versions": provenance.versions()})
    trainings: dict[str, Any] = {}
    warnings: list[str] = []
    for point, units in points.items():
        records = []
        for unit in units:
            folder = run / layout.CHECKPOINTS / unit.name
            with retraining_damaged(folder):
                records.append(read_record(folder))
        losses.records[point] = records
        there = [record for record in records if record is not None]
        losses.by_point[point] = tuple(
            record.validation_loss if record else float("nan") for record in records
        )
        losses.parameters[point] = there[0].parameters if there else 0
        for unit, record in zip(units, records, strict=True):
            if record is None:
                losses.missing.append(unit.name)
                warnings.append(f"{_title(point, unit, units)} is missing: it failed or is to do")
            else:
                trainings[unit.name] = _facts(point, unit, record)
        task.advance()
    losses.provenance["trainings"] = trainings
    return replace(losses, warnings=tuple(warnings))


def _title(point: str, unit: Unit, units: Sequence[Unit]) -> str:
    return f"{point}, seed {unit.seed}" if len(units) > 1 else point


def _facts(point: str, unit: Unit, record: TrainingRecord) -> dict[str, Any]:
    return {
        "point": point,
        "seed": unit.seed,
        "parameters": record.parameters,
        "tokens": record.tokens,
        "device": record.device,
        "seconds": record.seconds,
        "validation_loss": record.validation_loss,
        "training_loss": record.training_loss,
    }
