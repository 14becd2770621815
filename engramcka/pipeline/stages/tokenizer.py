"""Stage tokenizer: one tokenizer for every model trained in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.atomic import atomic_path
from engramcka.config import Config
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece, refuse_other_inputs
from engramcka.pipeline.units import tokenizer_inputs
from engramcka.progress import Task
from engramcka.stores import layout, manifest

_RECORD = "inputs.json"


def tokenizer_piece(config: Config, run: Path) -> Piece:
    """The tokenizer of every model trained here; refuses one of another config.

    One that is damaged counts as none: the text gives the same one again.
    """
    folder = run / layout.CHECKPOINTS / "tokenizer"
    inputs = tokenizer_inputs(config)
    found = read_inputs(folder)
    if found is not None:
        refuse_other_inputs(str(folder), found, inputs)
    return Piece(
        stage="tokenizer",
        name=config.data.source,
        total=1,
        unit="tokenizer",
        inputs=inputs,
        is_done=lambda: read_inputs(folder) is not None,
        work=partial(make_tokenizer, folder=folder, inputs=inputs),
    )


def read_inputs(folder: Path) -> dict[str, Any] | None:
    """What the tokenizer in a folder was made from, or None if none is there or it is damaged."""
    try:
        manifest.require_intact(folder, folder.name)
    except StoreError:
        return None
    record = json.loads((folder / _RECORD).read_bytes())
    inputs: dict[str, Any] = record["inputs"]
    return inputs


def make_tokenizer(
    context: Context, task: Task, *, folder: Path, inputs: Mapping[str, Any]
) -> None:
    """Train the tokenizer on the training text; its folder appears whole or not at all."""
    from engramcka.data import train_tokenizer

    tokenizer = train_tokenizer(context.corpus.training, context.config.data.vocabulary)
    with atomic_path(folder) as scratch:
        tokenizer.save_pretrained(scratch)
        record = {"inputs": inputs, "corpus": context.corpus.fingerprint}
        (scratch / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        manifest.finalize(scratch, folder.name)
    task.advance(info=f"{len(tokenizer)} entries")
