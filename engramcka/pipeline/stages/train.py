"""Stage train: one model trained from a preset, in a folder that appears whole or not at all."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.config import Config
from engramcka.errors import OutOfMemory, StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.ram import out_of_memory
from engramcka.stores import layout, manifest, provenance, results


def train_pieces(
    config: Config, run: Path, units: Mapping[str, Unit], seen: set[str]
) -> Iterator[Piece]:
    """The training of every model, and its curve; models made from the same share one training."""
    for name, unit in units.items():
        models = [other for other, its in units.items() if its.name == unit.name]
        yield from unit_piece(config, run, unit, "train", name, seen, models)


def unit_piece(
    config: Config,
    run: Path,
    unit: Unit,
    stage: Any,
    name: str,
    seen: set[str],
    models: Sequence[str] = (),
) -> Iterator[Piece]:
    """The piece that trains a unit, unless one before it does.

    Models are kept at the steps of training.checkpoints too, and the training curve is a result of
    theirs; points of a sweep have neither.
    """
    if unit.name in seen:
        return
    seen.add(unit.name)
    folder = run / layout.CHECKPOINTS / unit.name
    kept = config.training.checkpoints if models else ()
    made = [folder / "training.json", *(folder / layout.step_name(step) for step in kept)]
    curves = {model: {"unit": unit.name, "label": config.label(model)} for model in models}

    def is_trained() -> bool:
        return all(path.exists() for path in made) and manifest.looks_intact(folder, unit.name)

    def has_curves() -> bool:
        path = run / layout.RESULTS
        return all(
            results.read_inputs(path, "training", model) == inputs
            for model, inputs in curves.items()
        )

    def work(context: Context, task: Task) -> None:
        if not is_trained():
            train_unit(context, task, unit=unit, folder=folder, kept=kept)
        if context.world.first or not context.config.training.data_parallel:
            _write_curves(context, unit, folder, curves)

    yield Piece(
        stage=stage,
        name=name,
        total=config.training.steps,
        unit="steps",
        inputs=unit.inputs,
        is_done=lambda: is_trained() and has_curves(),
        work=work,
        ranks="all" if config.training.data_parallel else "each",
        makes=unit.name,
    )


def train_unit(
    context: Context, task: Task, *, unit: Unit, folder: Path, kept: Sequence[int]
) -> None:
    """Train one model; its folder appears whole or not at all.

    Raises:
        TrainingError: the loss is no longer a number, or the memory does not hold the model.
    """
    from engramcka.data import spread_sequences, token_sequences
    from engramcka.models import build_model
    from engramcka.training import train_model

    gc.collect()  # a training that failed before this one may have left its model in a cycle
    options, corpus = context.config.training, context.corpus
    training = token_sequences(
        context.tokenizer,
        corpus.training,
        length=options.sequence_length,
        count=options.steps * options.batch_size,
        seed=unit.seed,
    )
    # The same validation text whatever the seed, so that seeds differ by training alone.
    validation, documents = spread_sequences(
        context.tokenizer,
        corpus.validation,
        length=options.sequence_length,
        count=options.validation_sequences,
        seed=0,
    )
    world = context.world
    with world.together() if options.data_parallel else world.alone(), _told_of_memory():
        model = build_model(
            unit.preset, unit.engram, context.tokenizer, unit.seed, experts=unit.experts
        )
        record = train_model(
            model,
            context.tokenizer,
            training=training,
            validation=validation,
            validation_documents=documents,
            options=options,
            kept=kept,
            seed=unit.seed,
            device=context.device,
            folder=folder,
            inputs=dict(unit.inputs),
            on_step=lambda step, info: task.update(step, info=info),
        )
    task.update(task.total, info=f"validation loss {record.validation_loss:.3f}")


def _write_curves(
    context: Context, unit: Unit, folder: Path, curves: Mapping[str, Mapping[str, str]]
) -> None:
    """The training curve of every model that a unit is, as results."""
    from engramcka.results import TrainingCurve
    from engramcka.training import read_record

    with retraining_damaged(folder):
        record = read_record(folder)
    assert record is not None, "the unit is whole"
    readings = {
        name: [value[place] for value in values]
        for values, names in (
            (record.training_loss, ("step", "loss")),
            (record.validation_losses, ("validation_step", "validation_loss")),
        )
        for place, name in enumerate(names)
    }
    facts = {
        key: getattr(record, key)
        for key in ("steps", "tokens", "parameters", "device", "seconds", "expert_imbalance")
    }
    for model, inputs in curves.items():
        curve = TrainingCurve(
            **{name: np.array(values) for name, values in readings.items()},
            label=inputs["label"],
            provenance={"training": unit.inputs, **facts, "versions": provenance.versions()},
        )
        results.write_result(context.results, model, curve, inputs)


@contextmanager
def retraining_damaged(unit: Path) -> Iterator[None]:
    """Where a trained model is not what was written, have the next run train it anew."""
    try:
        yield
    except StoreError as error:
        manifest.mark_incomplete(unit)
        raise StoreError(f"{error}; run stage train again to make it anew") from error


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Say in a line that memory ran out, on a GPU or in the host."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = f" ({layout.first_line(error)})" if str(error) else ""
        raise OutOfMemory(
            f"out of memory{reason}; a smaller training.batch_size, sequence_length or preset may "
            "fit"
        ) from error
