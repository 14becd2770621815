"""Stage extract: one model's hidden states at every sample, in a store of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from engramcka.config import CapturedModel, Config, ImportedModel
from engramcka.errors import DataError, StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.inputs import extract_inputs, refuse_other_states
from engramcka.pipeline.members import Member, last_member, members
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.importing import BY_SPAN, IDENTITY, check_import, import_states
from engramcka.pipeline.stages.models import (
    OpenModel,
    open_model,
    placed,
    ranks_for,
    require_own_gpus,
)
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.stores import layout, open_activations, provenance
from engramcka.stores.mending import stored_attributes

READINGS_VERSION = 1
"""Grows when what a lens reads changes, so that older read-outs and curves are made anew."""

READINGS_ATTRIBUTE = "lens_version"
"""Attribute of an activation store that says which version its read-outs are."""

FEWEST_DOCUMENTS = 4  # in a batch of samples of different documents


def extract_pieces(config: Config, run: Path, name: str, unit: Unit | None) -> Iterator[Piece]:
    """One model's hidden states, or those of each of its checkpoints.

    Raises:
        StoreError: a store of another config is in the way.
    """
    for member in members(config, name):
        path = run / layout.ACTIVATIONS / f"{member.store}.zarr"
        inputs = extract_inputs(config, name, unit, member)
        if path.exists():
            refuse_other_states(path, member, inputs)
        total, work = config.data.samples, partial(extract_model, unit=unit, member=member)
        ranks = ranks_for(config, name, "all")
        if isinstance(member.table, ImportedModel):
            ranks = "first"
            total = _rows_of(config, path, name, member.table)
            work = partial(import_states, name=name, table=member.table)
        yield Piece(
            stage="extract",
            name=member.store,
            total=total,
            unit="samples",
            inputs=inputs,
            is_done=partial(_is_complete, path),
            work=partial(work, path=path, inputs=inputs),
            ranks=ranks,
            needs=(unit.name,) if unit else (),
        )


def _is_complete(path: Path) -> bool:
    """Whether a store is finished and, as far as sizes and times tell, as it was written."""
    if not path.exists():
        return False
    try:
        store = open_activations(path)
        return store.sealed and not store.missing() and not store.damaged()
    except StoreError:
        return False  # what can be mended is; else that says why not


def _rows_of(config: Config, path: Path, name: str, table: ImportedModel) -> int:
    """Samples of an import; its files need not be there any more once it is done."""
    if _is_complete(path):
        return open_activations(path).n_samples
    try:
        return check_import(table)[0]
    except (DataError, StoreError) as error:
        raise config.error(("models", name, "path"), str(error)) from error


def extract_model(
    context: Context,
    task: Task,
    *,
    unit: Unit | None,
    member: Member,
    path: Path,
    inputs: Mapping[str, Any],
) -> None:
    """Fill one model's activation store."""
    require_own_gpus(context, member)
    with open_model(context, member.model, unit, member) as opened:
        _fill(context, task, opened, member, path, inputs)


def _fill(
    context: Context,
    task: Task,
    opened: OpenModel,
    member: Member,
    path: Path,
    inputs: Mapping[str, Any],
) -> None:
    from engramcka.extraction import extract
    from engramcka.models.blocks import capture_points

    table = member.table
    assert isinstance(table, CapturedModel)
    passages = placed(context, opened.tokenizer)
    if context.world.first:
        _tell_samples(context, task, passages)
    _require_documents(context.config, passages)
    points = capture_points(
        opened.model,
        table.points,
        blocks=getattr(table, "blocks", None),
        embedding=table.embedding,
    )
    readout = _readout(context, member, opened.model, passages)
    store = extract(
        opened.model,
        passages,
        path,
        pad_id=opened.pad_id,
        attributes={
            "label": context.config.label(member.model),
            "model": opened.where,
            "step": member.step,
            "points": table.points,
            "corpus": context.corpus.fingerprint,
            IDENTITY: BY_SPAN,
            "asked": context.config.data.samples,
            "versions": provenance.versions(),
            "device": context.device,
            **({} if readout is None else {READINGS_ATTRIBUTE: READINGS_VERSION}),
        },
        inputs=inputs,
        on_rows=lambda done, total: task.update(done, total),
        readout=readout,
        points=points,
        streams=table.streams,
        nonfinite=context.config.data.nonfinite,
        compression=context.config.run.compression,
        world=context.world,
        as_one=opened.as_one,
    )
    if store.attributes["corpus"] != context.corpus.fingerprint:
        raise StoreError(f"{path}: begun on another text; delete it to make it anew", exit_code=2)
    task.update(store.n_samples, store.n_samples)


def reads_lens(config: Config, member: Member) -> bool:
    """Whether the lens is read in a member's pass: a store that was begun goes on as it was."""
    path = Path(config.run.dir) / layout.ACTIVATIONS / f"{member.store}.zarr"
    if path.exists():
        return READINGS_ATTRIBUTE in stored_attributes(path)
    is_last = member == last_member(config, member.model)
    return any(
        member.model in lens.models and (is_last or lens.checkpoints) for lens in config.lens
    )


def _readout(context: Context, member: Member, model: Any, passages: Any) -> Any:
    if not reads_lens(context.config, member) or not len(passages.samples):
        return None
    from engramcka.lens import LensReadout

    return LensReadout(model, passages.ids[0])


def finished_store(context: Context, model: str, member: Member | None = None) -> Any:
    """A model's activation store, of its last checkpoint if none is named.

    Raises:
        StoreError: samples are missing.
    """
    from engramcka.stores import open_activations

    name = (member or last_member(context.config, model)).store
    path = context.run / layout.ACTIVATIONS / f"{name}.zarr"
    if not path.exists():
        raise StoreError(f"{path}: {name} is not extracted yet; run stage extract first")
    store = open_activations(path)
    missing = sum(stop - start for start, stop in store.missing())
    if missing:
        raise StoreError(f"{path}: {missing} samples are missing; run stage extract first")
    return store


@contextmanager
def noticing_damage(*stores: Any) -> Iterator[None]:
    """Where stores cannot be read, mark what is damaged as not written: the next run makes it."""
    try:
        yield
    except StoreError as error:
        found = sum(store.forget_damaged(every_byte=True) for store in stores)
        if not found:
            raise
        raise StoreError(f"{error}; run it again to make that anew") from error


def _require_documents(config: Config, passages: Any) -> None:
    """Refuse maps across documents of which no batch can be made, before anything is extracted."""
    documents, most = passages.samples.spread()
    if most and len(passages.samples) // most >= FEWEST_DOCUMENTS:
        return
    for index, cka in enumerate(config.cka):
        minibatch = cka.estimator == "minibatch" and cka.batches == "random"
        if cka.pairs == "across-documents" and minibatch and not cka.where:
            raise config.error(
                ("cka", index, "pairs"),
                f"{len(passages.samples):,} samples are of {documents:,} documents, {most:,} of "
                f"one of them: no batches of {FEWEST_DOCUMENTS} different documents can be made",
                "draw fewer of each (data.per_document), take more documents, or "
                'pairs = "all" compares within documents too',
            )


def _tell_samples(context: Context, task: Task, passages: Any) -> None:
    """Say how many samples were asked for, drawn, left out by which reason, and are stored."""
    from engramcka.extraction import sample_counts

    asked, counts = context.config.data.samples, sample_counts(passages)
    reasons = left_out_words(counts["left_out"], context.config)
    stored = len(passages.samples)
    info = (
        f"{asked:,} samples asked for, {counts['drawn']:,} drawn"
        f"{', left out: ' + reasons if reasons else ''}; {stored:,} of {counts['documents']:,} "
        f"documents, at most {counts['most_of_a_document']:,} of one"
    )
    task.tell("samples", info, asked=asked, **counts, stored=stored)


def left_out_words(left_out: Mapping[str, int], config: Config) -> str:
    """The reasons for which samples are not stored, with how many each, in words."""
    data = config.data
    words = {
        "cut_off": f"cut off by data.max_length = {data.max_length}",
        "no_token": "in no token",
        "first_tokens": f"in the first tokens of a passage (data.skip_first = {data.skip_first})",
        "repeated": "in the token of another sample",
    }
    return ", ".join(f"{count:,} {words[key]}" for key, count in left_out.items() if count)
