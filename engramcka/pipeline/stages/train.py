"""Stage train: one model trained from a preset, in a folder that appears whole or not at all."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import Config
from engramcka.errors import TrainingError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.stores import layout


def unit_piece(
    config: Config, run: Path, unit: Unit, stage: Any, name: str, seen: set[str]
) -> Iterator[Piece]:
    """The piece that trains a unit, unless one before it does.

    Models are kept at the steps of training.checkpoints too; points of a sweep are not.
    """
    if unit.name in seen:
        return
    seen.add(unit.name)
    folder = run / layout.CHECKPOINTS / unit.name
    kept = config.training.checkpoints if stage == "train" else ()
    made = [folder / "training.json", *(folder / layout.step_name(step) for step in kept)]
    yield Piece(
        stage=stage,
        name=name,
        total=config.training.steps,
        unit="steps",
        inputs=unit.inputs,
        is_done=lambda: all(path.exists() for path in made),
        work=partial(train_unit, unit=unit, folder=folder, kept=kept),
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
    from engramcka.data import token_sequences
    from engramcka.models import build_model
    from engramcka.training import train_model

    gc.collect()  # a training that failed before this one may have left its model in a cycle
    options, corpus = context.config.training, context.corpus
    sequences = {
        name: token_sequences(
            context.tokenizer, documents, length=options.sequence_length, count=count, seed=seed
        )
        for name, documents, count, seed in (
            ("training", corpus.training, options.steps * options.batch_size, unit.seed),
            # The same validation text whatever the seed, so that seeds differ by training alone.
            ("validation", corpus.validation, options.validation_sequences, 0),
        )
    }
    world = context.world
    with world.together() if options.data_parallel else world.alone(), _told_of_memory():
        model = build_model(
            unit.preset, unit.engram, context.tokenizer, unit.seed, experts=unit.experts
        )
        record = train_model(
            model,
            context.tokenizer,
            **sequences,
            options=options,
            kept=kept,
            seed=unit.seed,
            device=context.device,
            folder=folder,
            inputs=dict(unit.inputs),
            on_step=lambda step, info: task.update(step, info=info),
        )
    task.update(task.total, info=f"validation loss {record.validation_loss:.3f}")


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Say in a line that memory ran out, on a GPU or in the host."""
    try:
        yield
    except MemoryError as error:
        raise _out_of_memory(error) from error
    except RuntimeError as error:  # torch.OutOfMemoryError, or the CPU allocator's nameless one
        if type(error).__name__ != "OutOfMemoryError" and "allocate memory" not in str(error):
            raise
        raise _out_of_memory(error) from error


def _out_of_memory(error: BaseException) -> TrainingError:
    reason = f" ({layout.first_line(error)})" if str(error) else ""
    return TrainingError(
        f"out of memory{reason}; a smaller training.batch_size, sequence_length or preset may fit"
    )
