"""Stage lens: LogitLens curves; `engramcka.pipeline.stages.gates` has what is read token by token.

A curve is made from the read-outs that the extraction has stored. Where a store has none, because
the lens came into the config later, or where the memory is silenced, the samples go through the
model once more; the stored hidden states stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from engramcka.config import LensTable
from engramcka.config.analysis_tables import where_text
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.sources import Source
from engramcka.pipeline.spec import CurveSpec, RunSpec
from engramcka.pipeline.stages.extract import (
    READINGS_ATTRIBUTE,
    READINGS_VERSION,
    finished_store,
)
from engramcka.pipeline.stages.models import (
    NOTES,
    noted,
    open_model,
    passages_for,
    ranks_for,
    require_known_tokens,
)
from engramcka.pipeline.tasks import Task
from engramcka.pipeline.where import rows_where
from engramcka.progress import TaskProgress
from engramcka.stores import provenance, results

if TYPE_CHECKING:
    pass


def lens_tasks(spec: RunSpec, lens: LensTable) -> Iterator[Task]:
    """A curve of every model, and of those in ``memory_off`` without their memory.

    Of a series, a curve of every checkpoint where the table asks for it; the last has the plain
    name.
    """
    for curve in spec.curves(lens):
        checkpoint = curve.checkpoint
        inputs = {
            "model": checkpoint.inputs,
            "direction": lens.direction,
            "where": where_text(lens.where),
            "memory": curve.memory,
            "label": curve.label,
            "version": READINGS_VERSION,
        }
        yield Task(
            name=curve.name,
            total=spec.drawn(checkpoint),
            unit="samples",
            work=partial(compute_curve, lens=lens, curve=curve, inputs=inputs),
            needs=(f"extract/{checkpoint.store}",),
            **lens_task_fields(spec, "lens", curve.name, inputs, checkpoint.source),
        )


def lens_task_fields(
    spec: RunSpec, kind: str, name: str, inputs: dict[str, Any], source: Source
) -> dict[str, Any]:
    """What all tasks of this stage have: one result of one model, which the first rank stores."""
    return {
        "stage": "lens",
        "inputs": inputs,
        "is_done": partial(spec.is_stored, kind, name, inputs),
        "makes": f"{kind}/{name}",
        "ranks": ranks_for(source, "first"),
    }


def compute_curve(
    context: Context,
    progress: TaskProgress,
    *,
    lens: LensTable,
    curve: CurveSpec,
    inputs: Mapping[str, Any],
) -> None:
    """Make one curve of a checkpoint's samples and store it."""
    from engramcka.lens import lens_curve

    store = finished_store(curve.checkpoint)
    path = ("lens", context.config.lens.index(lens), "where")
    (rows,) = rows_where(context.config, path, lens.where, [store.samples])
    readings = _stored_readings(store) if curve.memory else None
    if readings is None:
        readings = _read(context, progress, store, curve)
    if not context.world.first:
        return
    kept = ("model", "device", "asked", "drawn", "left_out", "skipped", "step")
    facts = {key: store.attributes.get(key) for key in kept}
    result = lens_curve(
        {key: value[rows] for key, value in readings.items()},
        store.samples["document"][rows],
        range(1, next(iter(readings.values())).shape[1] + 1),
        direction=lens.direction,
        label=curve.label,
        memory=curve.memory,
        where=where_text(lens.where),
        provenance={**facts, "versions": provenance.versions()},
    )
    notes = noted(curve.checkpoint, store.attributes.get(NOTES))
    result = replace(result, warnings=(*notes, *result.warnings))
    results.write_result(context.results, curve.name, result, inputs)
    progress.update(progress.total, info=f"n = {len(rows)}")


def _stored_readings(store: Any) -> dict[str, Any] | None:
    """Readings that the extraction left in a store, (samples, blocks) by name, if it did."""
    from engramcka.lens import PREFIX

    if store.attributes.get(READINGS_ATTRIBUTE) != READINGS_VERSION:
        return None
    return {
        name.removeprefix(PREFIX): array[0 : len(array)]
        for name, array in store.readouts.items()
        if name.startswith(PREFIX)
    }


def _read(context: Context, progress: TaskProgress, store: Any, curve: CurveSpec) -> dict[str, Any]:
    """The same readings in a pass of its own."""
    from engramcka.extraction import read_passages
    from engramcka.lens import PREFIX, LensReadout, require_memory
    from engramcka.models import memory_off

    with open_model(context, curve.checkpoint) as opened:
        passages = passages_for(context, opened.tokenizer, curve.checkpoint)
        require_known_tokens(context, curve.checkpoint, opened, passages.ids)
        if len(passages.samples) != store.n_samples:
            raise StoreError(
                f"{store.path}: holds {store.n_samples} samples, the text now gives "
                f"{len(passages.samples)}; delete it to make it again"
            )
        if not curve.memory:
            require_memory(opened.memories, curve.checkpoint.model)
            opened.require_memories()
        with nullcontext() if curve.memory else memory_off(opened.model, opened.memories):
            found = read_passages(
                opened.model,
                passages,
                LensReadout(opened.model, passages.ids[0]),
                pad_id=opened.pad_id,
                on_rows=lambda done, total: progress.update(done, total),
                as_one=opened.as_one,
            )
    return {key.removeprefix(PREFIX): value for key, value in found.items()}
