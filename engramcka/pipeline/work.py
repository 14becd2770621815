"""How each piece of a run is made: the one place where models, data, stores and maths meet.

Every function takes the run's context and the piece's progress. Heavy imports are inside, so that a
plan can be made without them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engramcka.config import CkaTable, LoadedModel, SweepTable
from engramcka.errors import ComparisonError, StoreError
from engramcka.pipeline.context import Context
from engramcka.progress import Task
from engramcka.stores import layout, provenance
from engramcka.whole import whole

if TYPE_CHECKING:
    from engramcka.pipeline.plan import Unit

_TOKENIZER_RECORD = "inputs.json"


def read_tokenizer_inputs(folder: Path) -> dict[str, Any] | None:
    """What the tokenizer in a folder was made from, or None if there is none."""
    try:
        record = json.loads((folder / _TOKENIZER_RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    inputs: dict[str, Any] = record["inputs"]
    return inputs


def make_tokenizer(
    context: Context, task: Task, *, folder: Path, inputs: Mapping[str, Any]
) -> None:
    """Train the tokenizer on the training text; its folder appears whole or not at all."""
    from engramcka.data import train_tokenizer

    tokenizer = train_tokenizer(context.corpus.training, context.config.data.vocabulary)
    with whole(folder) as scratch:
        tokenizer.save_pretrained(scratch)
        record = {"inputs": inputs, "corpus": context.corpus.fingerprint}
        (scratch / _TOKENIZER_RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    task.advance(info=f"{len(tokenizer)} entries")


def train_unit(context: Context, task: Task, *, unit: Unit, folder: Path) -> None:
    """Train one model; its folder appears whole or not at all."""
    from engramcka.data import token_sequences
    from engramcka.models import build_model
    from engramcka.training import train_model

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
    model = build_model(unit.preset, unit.engram, context.tokenizer, unit.seed)
    record = train_model(
        model,
        context.tokenizer,
        **sequences,
        options=options,
        seed=unit.seed,
        device=context.device,
        folder=folder,
        inputs=dict(unit.inputs),
        on_step=lambda step, info: task.update(step, info=info),
    )
    task.update(task.total, info=f"validation loss {record.validation_loss:.3f}")


def extract_model(
    context: Context,
    task: Task,
    *,
    name: str,
    unit: Unit | None,
    path: Path,
    inputs: Mapping[str, Any],
) -> None:
    """Fill one model's activation store."""
    from engramcka.data import place_samples
    from engramcka.extraction import extract
    from engramcka.models import load_model

    table = context.config.models[name]
    if isinstance(table, LoadedModel):
        where: dict[str, Any] = {
            "path": table.path,
            "revision": table.revision,
            "dtype": table.dtype,
            "trust_remote_code": table.trust_remote_code,
        }
    else:
        assert unit is not None
        folder = context.run / layout.CHECKPOINTS / unit.name
        if not folder.is_dir():
            raise StoreError(f"{folder}: model {name} is not trained yet; run stage train first")
        where = {"path": str(folder), "dtype": "float32"}
    model, tokenizer = load_model(**where, device=context.device)
    passages = place_samples(
        tokenizer, context.corpus, context.samples, context.config.data.max_length
    )
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    store = extract(
        model,
        passages,
        path,
        pad_id=pad_id,
        attributes={
            "label": context.config.label(name),
            "model": where,
            "corpus": context.corpus.fingerprint,
            "versions": provenance.versions(),
            "device": context.device,
        },
        inputs=inputs,
        on_rows=lambda done, total: task.update(done, total),
    )
    if store.attributes["corpus"] != context.corpus.fingerprint:
        raise StoreError(f"{path}: begun on another text; delete it to make it anew", exit_code=2)
    task.update(store.n_samples, store.n_samples, info=_skipped(passages.skipped))


def compute_map(context: Context, task: Task, *, cka: CkaTable, inputs: Mapping[str, Any]) -> None:
    """Compute one CKA map from two activation stores and store it."""
    from dataclasses import replace

    from engramcka.data import common_rows
    from engramcka.similarity import cka_map
    from engramcka.stores import write_cka

    stores = {side: _finished_store(context, getattr(cka, side)) for side in ("y", "x")}
    y, x = stores["y"], stores["x"]
    if y.attributes["corpus"] != x.attributes["corpus"]:
        raise ComparisonError(f"cka {cka.name}: {cka.y} and {cka.x} were extracted from other text")
    y_rows, x_rows = common_rows(y.samples, x.samples)
    lost = max(y.n_samples, x.n_samples) - len(y_rows)
    result = cka_map(
        [layer.take(y_rows) for layer in y.layers.values()],
        [layer.take(x_rows) for layer in x.layers.values()],
        estimator=cka.estimator,
        batch_size=cka.batch_size,
        kernel=cka.kernel,
        standardize=cka.standardize,
        nonfinite=cka.nonfinite,
        permutations=cka.permutations,
        seed=context.config.run.seed,
        device=context.device,
        y_label=context.config.label(cka.y),
        x_label=context.config.label(cka.x),
        y_layers=tuple(y.layers),
        x_layers=tuple(x.layers),
        on_progress=lambda done, total: task.update(done, total),
    )
    facts: dict[str, Any] = {
        side: {
            key: store.attributes.get(key)
            for key in ("label", "model", "versions", "device", "skipped")
        }
        for side, store in stores.items()
    }
    facts["versions"] = provenance.versions()
    facts["device"] = context.device
    facts["unmatched_samples"] = lost
    write_cka(context.results, cka.name, replace(result, provenance=facts), inputs)
    task.update(task.total, info=f"n = {len(y_rows)}")


def collect_sweep(
    context: Context,
    task: Task,
    *,
    sweep: SweepTable,
    points: Mapping[int, list[Unit]],
    inputs: Mapping[str, Any],
) -> None:
    """Gather the validation losses of a sweep's trainings and store them."""
    import numpy as np

    from engramcka.results import LossSweep
    from engramcka.stores import write_sweep
    from engramcka.training import read_record

    losses: dict[int, list[float]] = {}
    facts: dict[str, Any] = {}
    for layer, units in points.items():
        losses[layer] = []
        for unit in units:
            record = read_record(context.run / layout.CHECKPOINTS / unit.name)
            if record is None:
                raise StoreError(f"sweep {sweep.name}: {unit.name} is not trained yet")
            losses[layer].append(record.validation_loss)
            facts[unit.name] = {
                "parameters": record.parameters,
                "tokens": record.tokens,
                "device": record.device,
                "training_loss": record.training_loss,
            }
        task.advance()
    baseline = losses.pop(0, [])
    write_sweep(
        context.results,
        sweep.name,
        LossSweep(
            layers=tuple(losses),
            loss=np.array(list(losses.values())),
            baseline=np.array(baseline),
            seeds=context.config.seeds(sweep),
            label=context.config.label(sweep.model),
            provenance={"trainings": facts, "versions": provenance.versions()},
        ),
        inputs,
    )


def draw(context: Context, task: Task, *, kind: str, name: str, targets: list[Path]) -> None:
    """Draw one stored result into files."""
    from engramcka import figures
    from engramcka.stores import open_run

    run = open_run(context.run)
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "cka":
            figures.save_cka_map(run.cka[name], target)
        else:
            figures.save_sweep(run.sweep[name], target)
        task.advance()


def _finished_store(context: Context, model: str) -> Any:
    from engramcka.stores import open_activations

    path = context.run / layout.ACTIVATIONS / f"{model}.zarr"
    if not path.exists():
        raise StoreError(f"{path}: {model} is not extracted yet; run stage extract first")
    store = open_activations(path)
    missing = sum(stop - start for start, stop in store.missing())
    if missing:
        raise StoreError(f"{path}: {missing} samples are missing; run stage extract first")
    return store


def _skipped(count: int) -> str:
    return f"{count} entities skipped, cut off by data.max_length" if count else ""
