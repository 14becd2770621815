"""Stages tokenizer and train: the tokenizer of a run, and models trained from presets.

Each has a folder that appears whole or not at all.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engramcka.atomic import atomic_path
from engramcka.errors import OutOfMemory, StoreError
from engramcka.pipeline.backbones import tokenizer_inputs
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.tasks import Stage, Task, refuse_other_inputs
from engramcka.pipeline.trainings import (
    TOKENIZER,
    TrainingSpec,
    retraining_damaged,
)
from engramcka.plain_text import first_line
from engramcka.progress import TaskProgress
from engramcka.ram import out_of_memory
from engramcka.stores import layout, manifest, provenance, results
from engramcka.training.record import RECORD

_TOKENIZER_RECORD = "inputs.json"


def tokenizer_task(spec: RunSpec) -> Task:
    """The tokenizer of every model trained here; refuses one of another config.

    One that is damaged counts as none: the same text gives the same tokenizer.
    """
    folder = spec.run / layout.CHECKPOINTS / TOKENIZER
    inputs = tokenizer_inputs(spec.config)
    found = _read_inputs(folder)
    if found is not None:
        refuse_other_inputs(str(folder), found, inputs)
    return Task(
        stage="tokenizer",
        name=spec.config.data.source,
        total=1,
        unit="tokenizer",
        inputs=inputs,
        is_done=lambda: _read_inputs(folder) is not None,
        work=partial(make_tokenizer, folder=folder, inputs=inputs),
    )


def _read_inputs(folder: Path) -> dict[str, Any] | None:
    """What the tokenizer in a folder was made from, or None if none is there or it is damaged."""
    try:
        manifest.require_intact(folder, folder.name)
    except StoreError:
        return None
    record = json.loads((folder / _TOKENIZER_RECORD).read_bytes())
    inputs: dict[str, Any] = record["inputs"]
    return inputs


def make_tokenizer(
    context: Context, progress: TaskProgress, *, folder: Path, inputs: Mapping[str, Any]
) -> None:
    """Train the tokenizer on the training text."""
    from engramcka.data import train_tokenizer

    tokenizer = train_tokenizer(context.corpus.training, context.config.data.vocabulary)
    with atomic_path(folder) as scratch:
        tokenizer.save_pretrained(scratch)
        record = {"inputs": inputs, "corpus": context.corpus.fingerprint}
        (scratch / _TOKENIZER_RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        manifest.finalize(scratch, folder.name)
    progress.advance(info=f"{len(tokenizer)} entries")


def train_tasks(spec: RunSpec) -> Iterator[Task]:
    """The training of every model, and its curve; models made from the same share one training."""
    for name, training in spec.trainings.items():
        models = [other for other, its in spec.trainings.items() if its.name == training.name]
        yield training_task(spec, training, "train", name, models)


def training_task(
    spec: RunSpec, training: TrainingSpec, stage: Stage, name: str, models: Sequence[str] = ()
) -> Task:
    """The task that trains a model.

    Models are kept at the steps of training.checkpoints too, and the training curve is a result of
    theirs; points of a sweep have neither.
    """
    config = spec.config
    folder = spec.run / layout.CHECKPOINTS / training.name
    kept = config.training.checkpoints if models else ()
    keeps = training.backbone.own_tokenizer or any(
        training.name == other.name for other in spec.trainings.values()
    )
    made = [folder / RECORD, *(folder / layout.step_name(step) for step in kept)]
    made += [folder / "config.json"] if keeps else []
    curves = {model: {"unit": training.name, "label": config.label(model)} for model in models}

    def is_trained() -> bool:
        return all(path.exists() for path in made) and manifest.looks_intact(folder, training.name)

    def has_curves() -> bool:
        return all(spec.is_stored("training", model, inputs) for model, inputs in curves.items())

    def work(context: Context, progress: TaskProgress) -> None:
        if not is_trained():
            train(context, progress, training=training, folder=folder, kept=kept, keep_model=keeps)
        if context.world.first or not context.config.training.data_parallel:
            _write_curves(context, training, folder, curves)

    return Task(
        stage=stage,
        name=name,
        total=config.training.steps,
        unit="steps",
        inputs=training.inputs,
        is_done=lambda: is_trained() and has_curves(),
        work=work,
        ranks="all" if config.training.data_parallel else "each",
        makes=training.name,
        training=training,
    )


def train(
    context: Context,
    progress: TaskProgress,
    *,
    training: TrainingSpec,
    folder: Path,
    kept: Sequence[int],
    keep_model: bool,
) -> None:
    """Train one model; its folder appears whole or not at all.

    Points of sweeps over a model that exists keep their losses and not the model, which may be
    large, unless a model of the config is the same.

    Raises:
        TrainingError: the loss is no longer a number, or the memory does not hold the model.
    """
    from engramcka.data import spread_sequences
    from engramcka.training import train_model

    gc.collect()  # a training that failed before this one may have left its model in a cycle
    options, corpus = context.config.training, context.corpus
    world = context.world
    with (
        world.torch_distributed_env() if options.data_parallel else world.alone(),
        _explaining_out_of_memory(),
    ):
        model, tokenizer = training.backbone.build(
            context, training.engram, training.seed, training.experts
        )
        sequences = training_sequences(context, training, tokenizer)
        # The same validation text whatever the seed, so that seeds differ by training alone.
        validation, documents = spread_sequences(
            tokenizer,
            corpus.validation,
            length=options.sequence_length,
            count=options.validation_sequences,
            seed=0,
        )
        record = train_model(
            model,
            tokenizer,
            training=sequences,
            validation=validation,
            validation_documents=documents,
            options=options,
            kept=kept,
            seed=training.seed,
            device=context.device,
            folder=folder,
            inputs=dict(training.inputs),
            on_step=lambda step, info: progress.update(step, info=info),
            keep_model=keep_model,
        )
    progress.update(progress.total, info=f"validation loss {record.validation_loss:.3f}")


def training_sequences(context: Context, training: TrainingSpec, tokenizer: Any) -> Any:
    """What a model is trained on, (sequences, length) token ids."""
    from engramcka.data import token_sequences

    options = context.config.training
    return token_sequences(
        tokenizer,
        context.corpus.training,
        length=options.sequence_length,
        count=options.steps * options.batch_size,
        seed=training.seed,
    )


def _write_curves(
    context: Context, training: TrainingSpec, folder: Path, curves: Mapping[str, Mapping[str, str]]
) -> None:
    """The training curve of every model of a training, as results."""
    from engramcka.results import TrainingCurve
    from engramcka.training import read_record

    with retraining_damaged(folder):
        record = read_record(folder)
    assert record is not None, "the training is finished"
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
            provenance={"training": training.inputs, **facts, "versions": provenance.versions()},
        )
        results.write_result(context.results, model, curve, inputs)


@contextmanager
def _explaining_out_of_memory() -> Iterator[None]:
    """Say in a line that memory ran out, on a GPU or in the host."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = f" ({first_line(error)})" if str(error) else ""
        raise OutOfMemory(
            f"out of memory{reason}; a smaller training.batch_size, sequence_length or preset may "
            "fit"
        ) from error
