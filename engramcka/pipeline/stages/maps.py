"""Stages cka and map: one similarity map from two activation stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from engramcka.config import ComparisonTable, Config
from engramcka.config.analysis_tables import where_text
from engramcka.errors import ComparisonError, ConfigError, OptionError
from engramcka.pipeline.context import Context
from engramcka.pipeline.spec import CheckpointPair, RunSpec
from engramcka.pipeline.stages.extract import finished_store, left_out_words, noticing_damage
from engramcka.pipeline.stages.importing import BY_ROW, BY_SPAN, GUESSED, IDENTITY, NUMBERING
from engramcka.pipeline.stages.models import NOTES, noted
from engramcka.pipeline.tasks import Task
from engramcka.pipeline.where import FEWEST, rows_where
from engramcka.plain_text import first_line
from engramcka.progress import TaskProgress
from engramcka.ram import out_of_memory
from engramcka.stores import provenance, results

_NAME = 20  # characters of a sample that a warning shows


def map_tasks(spec: RunSpec, table: ComparisonTable) -> Iterator[Task]:
    """The maps of a table, one a step of a series; computed again when their inputs change."""
    for pair in spec.pairs(table):
        inputs = map_inputs(spec, table, pair)
        yield Task(
            stage=table.kind,
            name=pair.name,
            total=1,
            unit="parts",
            inputs=inputs,
            is_done=partial(spec.is_stored, table.kind, pair.name, inputs),
            work=partial(compute_map, table=table, pair=pair, inputs=inputs),
            needs=(f"extract/{pair.y.store}", f"extract/{pair.x.store}"),
            ranks="all",
        )


def map_inputs(spec: RunSpec, table: ComparisonTable, pair: CheckpointPair) -> dict[str, Any]:
    """All that decides what a map says, as JSON."""
    return {
        "y": pair.y.inputs,
        "x": pair.x.inputs,
        **table.inputs,
        "seed": spec.config.run.seed,
        "labels": list(pair.labels),
        **({} if pair.step is None else {"step": pair.step}),
        **({"part_of": table.part_of} if table.part_of else {}),
    }


def map_name(table: ComparisonTable, pair: CheckpointPair) -> str:
    """KIND/NAME of a map."""
    return f"{table.kind}/{pair.name}"


def as_input(spec: RunSpec, table: ComparisonTable, pair: CheckpointPair) -> dict[str, Any]:
    """A map as an input of a result that is made from it, as JSON."""
    return {"map": map_name(table, pair), "inputs": map_inputs(spec, table, pair)}


def compute_map(
    context: Context,
    progress: TaskProgress,
    *,
    table: ComparisonTable,
    pair: CheckpointPair,
    inputs: Mapping[str, Any],
) -> None:
    """Compute one map from two activation stores and store it."""
    from dataclasses import replace

    from engramcka.data import common_rows
    from engramcka.similarity import similarity_map
    from engramcka.similarity.parallel import Share

    y, x = finished_store(pair.y), finished_store(pair.x)
    stores = {"y": y, "x": x}
    _require_same_samples(context.config, table, pair, y, x)
    place = context.config.place_of(table)
    chosen = rows_where(context.config, (*place, "where"), table.where, (y.samples, x.samples))
    y_rows, x_rows = common_rows(y.samples, x.samples, (chosen[0], chosen[1]))
    lost = max(map(len, chosen)) - len(y_rows)
    _require_samples(context.config, table, pair, len(y_rows))
    with noticing_damage(y, x), _in_words_of_the_config(context.config, table, pair):
        result = similarity_map(
            [layer.take(y_rows) for layer in y.layers.values()],
            [layer.take(x_rows) for layer in x.layers.values()],
            **{"measure": table.measured_by, **table.options},
            groups=_documents(y, y_rows),
            seed=context.config.run.seed,
            device=context.device,
            y_label=pair.labels[0],
            x_label=pair.labels[1],
            y_layers=tuple(y.layers),
            x_layers=tuple(x.layers),
            names=sample_names(y.samples, y_rows),
            on_progress=lambda done, total: progress.update(done, total),
            share=Share(context.world.rank, context.world.size, context.world.gather),
        )
    if not context.world.first:
        return
    facts: dict[str, Any] = {
        side: {
            key: store.attributes.get(key)
            for key in ("label", "model", "versions", "device", "skipped", NUMBERING)
            if key != NUMBERING or key in store.attributes
        }
        for side, store in stores.items()
    }
    facts["versions"] = provenance.versions()
    facts["device"] = context.device
    facts["unmatched_samples"] = lost
    left_out = _left_out(context.config, pair, stores, lost)
    notes = [
        note
        for one, store in ((pair.y, y), (pair.x, x))
        for note in noted(one, store.attributes.get(NOTES))
    ]
    result = replace(
        result,
        provenance=facts,
        samples=_fingerprint(y, y_rows),
        where=where_text(table.where),
        left_out=left_out,
        part_of=table.part_of,
        warnings=(
            *dict.fromkeys(notes),
            *_guessed(context.config, pair, stores),
            *result.warnings,
        ),
    )
    if pair.step is not None and not table.part_of:
        result = replace(result, series=pair.map, step=pair.step)
    results.write_result(context.results, pair.name, result, inputs)
    info = f"n = {result.n_samples:,}{', left out: ' + left_out if left_out else ''}"
    progress.update(progress.total, info=info)
    for warning in result.warnings:
        progress.note("warning", warning)


def _guessed(config: Config, pair: CheckpointPair, stores: Mapping[str, Any]) -> Iterator[str]:
    """Which imported arrays are taken for which layers by default alone, a sentence a model."""
    for model, side in dict(zip(pair.models, stores, strict=True)).items():
        attributes = stores[side].attributes
        if attributes.get(GUESSED):
            yield f"{config.label(model)}: {attributes[NUMBERING]} (models.{model})"


def _left_out(config: Config, pair: CheckpointPair, stores: Mapping[str, Any], lost: int) -> str:
    """Why samples that were drawn are not in the map, "" where all of them are."""
    models: dict[str, list[str]] = {}  # by the reasons for which samples are left out
    for side, model in zip(("y", "x"), pair.models, strict=True):
        reasons = left_out_words(stores[side].attributes.get("left_out", {}), config)
        if reasons:
            models.setdefault(reasons, []).append(config.label(model))
    parts = [f"{reasons} ({' and '.join(dict.fromkeys(of))})" for reasons, of in models.items()]
    if lost:
        parts.append(f"{lost:,} of the rest in one of the models only")
    return "; ".join(parts)


def _fingerprint(store: Any, rows: Any) -> str:
    """Of which samples these rows are; "" of those that are known by their number alone."""
    from engramcka.data.samples import identities

    if store.attributes.get(IDENTITY, BY_SPAN) == BY_ROW:
        return ""
    return provenance.digest({"samples": [one for _, one in identities(store.samples, rows)]})


def _documents(store: Any, rows: Any) -> Any:
    """(samples,) the document of each; None for samples that are known by their number alone."""
    if store.attributes.get(IDENTITY, BY_SPAN) == BY_ROW:
        return None
    return store.samples["document"][rows]


def sample_names(samples: Mapping[str, Any], rows: Any) -> list[str]:
    """The name of each sample in warnings: its token, or that it is the first of a passage."""
    import numpy as np

    if "entity" not in samples or "passage_start" not in samples:
        return []
    texts, starts = samples.get("token", samples["entity"]), samples["passage_start"]
    if np.asarray(texts).dtype.kind not in "UT" or np.asarray(starts).dtype.kind not in "iuf":
        return []  # an imported table may hold anything
    # Of positions "all" start is a token's last character.
    start = np.minimum(samples["start"], samples["end"] - np.strings.str_len(texts))
    first = start <= samples["passage_start"]
    return ["first of a passage" if first[row] else repr(str(texts[row])[:_NAME]) for row in rows]


@contextmanager
def _in_words_of_the_config(
    config: Config, table: ComparisonTable, pair: CheckpointPair
) -> Iterator[None]:
    """What hidden states have not for an option is told at its key; out of memory, what needs less.

    Raises:
        ConfigError: an option that these hidden states do not allow.
        ComparisonError: there is not enough memory.
    """
    try:
        yield
    except OptionError as error:
        raise _refusal(config, table, pair, error.option, str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        less = "a smaller batch_size needs" if table.kind == "cka" else "fewer samples need"
        raise ComparisonError(
            f"{table.kind} {pair.map}: out of memory ({first_line(error)}); {less} less"
        ) from error


def _refusal(
    config: Config, table: ComparisonTable, pair: CheckpointPair, option: str, problem: str
) -> ConfigError:
    """A map that cannot be, at the key of its table that is to be changed."""
    key = option if hasattr(table, option) else "measure"
    return config.error((*config.place_of(table), key), f"{table.kind} {pair.map}: {problem}")


def _require_same_samples(
    config: Config, table: ComparisonTable, pair: CheckpointPair, y: Any, x: Any
) -> None:
    """Refuse stores whose rows cannot be known to stand for the same samples."""
    sides = f"{pair.y.model} and {pair.x.model}"
    y_identity, x_identity = (store.attributes.get(IDENTITY, BY_SPAN) for store in (y, x))
    problem = ""
    if y_identity != x_identity:
        problem = (
            f"{sides} tell samples apart by {y_identity} and by {x_identity}; give the imported "
            "one a samples file with document, start and end"
        )
    elif y_identity == BY_ROW and y.n_samples != x.n_samples:
        problem = f"{sides} are compared row by row and have {y.n_samples} and {x.n_samples} rows"
    elif len({store.attributes["corpus"] for store in (y, x)} - {None}) > 1:
        problem = f"{sides} were extracted from other text"
    if problem:
        raise _refusal(config, table, pair, table.key_of("x"), problem)


def _require_samples(
    config: Config, table: ComparisonTable, pair: CheckpointPair, found: int
) -> None:
    """Refuse too few samples in the words of the config, before the maths does in its own."""
    if found < FEWEST:
        where = f" where {where_text(table.where)}" if table.where else ""
        problem = (
            f"{' and '.join(pair.models)} share {found} samples{where}; "
            f"at least {FEWEST} are needed"
        )
        raise _refusal(config, table, pair, "where" if where else table.key_of("x"), problem)
