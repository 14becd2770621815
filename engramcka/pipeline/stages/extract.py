"""Stage extract: one model's hidden states at every sample, in a store of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import Config, LoadedModel
from engramcka.data.corpora import corpus_inputs
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.pieces import Piece, refuse_other_inputs
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.stores import layout, open_activations, provenance


def extract_piece(config: Config, run: Path, name: str, unit: Unit | None) -> Piece:
    """One model's hidden states; refuses a store of another config in the way."""
    path = run / layout.ACTIVATIONS / f"{name}.zarr"
    inputs = extract_inputs(config, name, unit)
    if path.exists():
        refuse_other_inputs(str(path), open_activations(path).inputs, inputs)
    return Piece(
        stage="extract",
        name=name,
        total=config.data.samples,
        unit="samples",
        inputs=inputs,
        is_done=lambda: path.exists() and not open_activations(path).missing(),
        work=partial(extract_model, name=name, unit=unit, path=path, inputs=inputs),
        ranks="all",
        needs=(unit.name,) if unit else (),
    )


def extract_inputs(config: Config, name: str, unit: Unit | None) -> dict[str, Any]:
    """What a model's hidden states are made from."""
    model = config.models[name]
    if isinstance(model, LoadedModel):
        made_from: Mapping[str, Any] = model.model_dump(mode="json", exclude={"label"})
    else:
        assert unit is not None
        made_from = unit.inputs
    data = config.data.model_dump(mode="json", exclude={"vocabulary", "nonfinite"})
    return {
        "model": dict(made_from),
        "data": {**data, **corpus_inputs(config.data)},
        "seed": config.run.seed,
    }


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
    data = context.config.data
    passages = place_samples(
        tokenizer,
        context.corpus,
        context.samples,
        data.max_length,
        positions=data.positions,
        count=data.samples,
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
        nonfinite=context.config.data.nonfinite,
        world=context.world,
    )
    if store.attributes["corpus"] != context.corpus.fingerprint:
        raise StoreError(f"{path}: begun on another text; delete it to make it anew", exit_code=2)
    task.update(store.n_samples, store.n_samples, info=_left_out(passages))


def finished_store(context: Context, model: str) -> Any:
    """A model's activation store, refused while samples are missing."""
    from engramcka.stores import open_activations

    path = context.run / layout.ACTIVATIONS / f"{model}.zarr"
    if not path.exists():
        raise StoreError(f"{path}: {model} is not extracted yet; run stage extract first")
    store = open_activations(path)
    missing = sum(stop - start for start, stop in store.missing())
    if missing:
        raise StoreError(f"{path}: {missing} samples are missing; run stage extract first")
    return store


def _left_out(passages: Any) -> str:
    parts = []
    if passages.skipped:
        parts.append(f"{passages.skipped} samples skipped, cut off by data.max_length")
    if passages.repeated:
        parts.append(f"{passages.repeated} left out, in the token of another sample")
    return ", ".join(parts)
