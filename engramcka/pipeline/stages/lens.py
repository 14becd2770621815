"""Stage lens: LogitLens curves of one ``[[lens]]`` table, from what the extraction has read off.

Where a store holds no read-outs, because the lens came into the config later, or where the memory
is silenced, the samples go through the model once more; the stored hidden states stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import Config, LensTable
from engramcka.errors import StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.inputs import extract_inputs
from engramcka.pipeline.members import Member, lens_curves
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.extract import (
    READINGS_ATTRIBUTE,
    READINGS_VERSION,
    finished_store,
)
from engramcka.pipeline.stages.models import open_model, placed, ranks_for
from engramcka.pipeline.units import Unit
from engramcka.pipeline.where import rows_where
from engramcka.progress import Task
from engramcka.stores import layout, provenance, results


def lens_pieces(
    config: Config, run: Path, lens: LensTable, units: Mapping[str, Unit]
) -> Iterator[Piece]:
    """A curve of every model, and of those named there without their memory.

    Of a series, a curve of every checkpoint where it is asked for; the last keeps the plain name.
    """
    for curve in lens_curves(config, lens):
        model, member = curve.member.model, curve.member
        inputs = {
            "model": extract_inputs(config, model, units.get(model), member),
            "direction": lens.direction,
            "where": lens.where,
            "memory": curve.memory,
            "label": config.label(model) + ("" if curve.is_last else f", step {member.step}"),
            "version": READINGS_VERSION,
        }
        yield Piece(
            stage="lens",
            name=curve.name,
            total=config.data.samples,
            unit="samples",
            inputs=inputs,
            is_done=partial(_is_there, run / layout.RESULTS, curve.name, inputs),
            work=partial(
                compute_curve,
                lens=lens,
                member=member,
                unit=units.get(model),
                memory=curve.memory,
                name=curve.name,
                inputs=inputs,
            ),
            needs=(f"extract/{member.store}",),
            ranks=ranks_for(config, model, "first"),
        )


def _is_there(path: Path, name: str, inputs: Mapping[str, Any]) -> bool:
    return bool(results.read_inputs(path, "lens", name) == inputs)


def compute_curve(
    context: Context,
    task: Task,
    *,
    lens: LensTable,
    member: Member,
    unit: Unit | None,
    memory: bool,
    name: str,
    inputs: Mapping[str, Any],
) -> None:
    """Make one curve of a checkpoint's samples and store it."""
    from engramcka.lens import lens_curve

    store = finished_store(context, member.model, member)
    path = ("lens", context.config.lens.index(lens), "where")
    (rows,) = rows_where(context.config, path, lens.where, [store.samples])
    readings = _stored(store) if memory else None
    if readings is None:
        readings = _read(context, task, store, member, unit, memory)
    if not context.world.first:
        return
    kept = ("model", "device", "asked", "drawn", "left_out", "skipped", "step")
    facts = {key: store.attributes.get(key) for key in kept}
    curve = lens_curve(
        {key: value[rows] for key, value in readings.items()},
        store.samples["document"][rows],
        range(1, next(iter(readings.values())).shape[1] + 1),
        direction=lens.direction,
        label=inputs["label"],
        memory=memory,
        where=lens.where,
        provenance={**facts, "versions": provenance.versions()},
    )
    results.write_result(context.results, name, curve, inputs)
    task.update(task.total, info=f"n = {len(rows)}")


def _stored(store: Any) -> dict[str, Any] | None:
    """Readings that the extraction left in a store, (samples, blocks) by name, if it did."""
    from engramcka.lens import PREFIX

    if store.attributes.get(READINGS_ATTRIBUTE) != READINGS_VERSION:
        return None
    return {
        name.removeprefix(PREFIX): array[0 : len(array)]
        for name, array in store.readouts.items()
        if name.startswith(PREFIX)
    }


def _read(
    context: Context, task: Task, store: Any, member: Member, unit: Unit | None, memory: bool
) -> dict[str, Any]:
    """The same readings in a pass of its own."""
    from contextlib import nullcontext

    from engramcka.extraction import read_passages
    from engramcka.lens import PREFIX, LensReadout
    from engramcka.models import memory_off

    with open_model(context, member.model, unit, member) as opened:
        passages = placed(context, opened.tokenizer)
        if len(passages.samples) != store.n_samples:
            raise StoreError(
                f"{store.path}: holds {store.n_samples} samples, the text now gives "
                f"{len(passages.samples)}; delete it to make it anew"
            )
        with nullcontext() if memory else memory_off(opened.model):
            found = read_passages(
                opened.model,
                passages,
                LensReadout(opened.model, passages.ids[0]),
                pad_id=opened.pad_id,
                on_rows=lambda done, total: task.update(done, total),
                as_one=opened.as_one,
            )
    return {key.removeprefix(PREFIX): value for key, value in found.items()}
