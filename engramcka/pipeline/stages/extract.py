"""Stage extract: one model's hidden states at every sample, in a store of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from engramcka.config import Config
from engramcka.errors import ConfigError, StoreError
from engramcka.pipeline.context import Context
from engramcka.pipeline.sources import Checkpoint, OpenModel
from engramcka.pipeline.sources.activations import is_complete
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.importing import BY_SPAN, IDENTITY
from engramcka.pipeline.stages.models import (
    NOTES,
    noted,
    open_model,
    passages_for,
    ranks_for,
    require_known_tokens,
    require_own_gpus,
)
from engramcka.pipeline.tasks import Task
from engramcka.progress import TaskProgress
from engramcka.stores import open_activations, provenance
from engramcka.stores.open import stored_attributes

READINGS_VERSION = 1
"""Grows when what a lens reads changes, so that older read-outs and curves are computed again."""

READINGS_ATTRIBUTE = "lens_version"
"""Attribute of an activation store that says which version its read-outs are."""

FEWEST_DOCUMENTS = 4  # in a batch of samples of different documents


def extract_tasks(spec: RunSpec, name: str) -> Iterator[Task]:
    """One model's hidden states, or those of each of its checkpoints.

    Raises:
        StoreError: a store of another config is there.
    """
    source = spec.models[name]
    for checkpoint in spec.stored(name):
        if checkpoint.path.exists():
            source.refuse_other_states(checkpoint)
        work: Callable[..., None] = partial(extract_states, checkpoint=checkpoint)
        if source.import_states is not None:
            work = partial(
                source.import_states,
                name=name,
                table=checkpoint.table,
                path=checkpoint.path,
                inputs=checkpoint.inputs,
            )
        yield Task(
            stage="extract",
            name=checkpoint.store,
            total=spec.drawn(checkpoint),
            unit="samples",
            inputs=checkpoint.inputs,
            is_done=partial(is_complete, checkpoint),
            work=work,
            ranks=ranks_for(source, "all") if source.runs_here else "first",
            needs=(source.training.name,) if source.training else (),
        )


def extract_states(context: Context, progress: TaskProgress, *, checkpoint: Checkpoint) -> None:
    """Fill one checkpoint's activation store."""
    require_own_gpus(context, checkpoint)
    with open_model(context, checkpoint) as opened:
        _fill(context, progress, opened, checkpoint)


def _fill(
    context: Context, progress: TaskProgress, opened: OpenModel, checkpoint: Checkpoint
) -> None:
    from engramcka.extraction import extract
    from engramcka.models import require_stream
    from engramcka.models.blocks import BLOCK, capture_points

    source, table, path = checkpoint.source, checkpoint.table, checkpoint.path
    passages = passages_for(context, opened.tokenizer, checkpoint)
    notes = (*opened.notes, *passages.notes)
    if context.world.first:
        _note_samples(context, progress, passages)
        for warning in noted(checkpoint, notes):
            progress.note("warning", warning)
    _require_documents(context.config, passages)
    require_known_tokens(context, checkpoint, opened, passages.ids)
    points = capture_points(
        opened.model,
        table.points,
        blocks=source.blocks,
        embedding=table.embedding,
        memories=opened.memories,
    )
    around = {side for memory in opened.memories.values() for side in (memory.before, memory.after)}
    if around & set(points.values()):
        opened.require_memories(in_stream=True)
    points = require_stream(
        opened.model,
        points,
        passages.ids[0],
        is_chain=table.points == BLOCK and source.blocks is None,
        pad_id=opened.pad_id,
    )
    readout = _readout(checkpoint, opened.model, passages)
    store = extract(
        opened.model,
        passages,
        path,
        pad_id=opened.pad_id,
        attributes={
            "label": source.label,
            "model": opened.load_args,
            "step": checkpoint.step,
            "points": table.points,
            "corpus": context.corpus.fingerprint,
            IDENTITY: BY_SPAN,
            "asked": context.config.data.samples,
            "versions": provenance.versions(),
            "device": context.device,
            **({NOTES: list(notes)} if notes else {}),
            **({} if readout is None else {READINGS_ATTRIBUTE: READINGS_VERSION}),
        },
        inputs=checkpoint.inputs,
        on_rows=lambda done, total: progress.update(done, total),
        readout=readout,
        points=points,
        streams=table.streams,
        nonfinite=context.config.data.nonfinite,
        compression=context.config.run.compression,
        world=context.world,
        as_one=opened.as_one,
    )
    if store.attributes["corpus"] != context.corpus.fingerprint:
        raise StoreError(f"{path}: begun on another text; delete it to make it again", exit_code=2)
    progress.update(store.n_samples, store.n_samples)


def reads_lens(checkpoint: Checkpoint) -> bool:
    """Whether the lens is read in a checkpoint's pass: a store that was begun goes on as it was."""
    if checkpoint.path.exists():
        return READINGS_ATTRIBUTE in stored_attributes(checkpoint.path)
    return any(
        checkpoint.model in lens.models and (checkpoint.is_last or lens.checkpoints)
        for lens in checkpoint.source.config.lens
    )


def _readout(checkpoint: Checkpoint, model: Any, passages: Any) -> Any:
    if not reads_lens(checkpoint) or not len(passages.samples):
        return None
    from engramcka.lens import LensReadout

    try:
        return LensReadout(model, passages.ids[0])
    except ConfigError as error:
        raise ConfigError(f"lens of {checkpoint.model!r}: {error}") from error


def finished_store(checkpoint: Checkpoint) -> Any:
    """A checkpoint's activation store.

    Raises:
        StoreError: samples are missing.
    """
    path = checkpoint.path
    if not path.exists():
        raise StoreError(
            f"{path}: {checkpoint.store} is not extracted yet; run stage extract first"
        )
    store = open_activations(path)
    missing = sum(stop - start for start, stop in store.missing())
    if missing:
        raise StoreError(f"{path}: {missing} samples are missing; run stage extract first")
    return store


@contextmanager
def noticing_damage(*stores: Any) -> Iterator[None]:
    """Where stores cannot be read, mark what is damaged as not written: the next run writes it."""
    try:
        yield
    except StoreError as error:
        found = sum(store.discard_damaged(every_byte=True) for store in stores)
        if not found:
            raise
        raise StoreError(f"{error}; run it again to replace that") from error


def _require_documents(config: Config, passages: Any) -> None:
    """Refuse maps across documents of which no batch can be made, before anything is extracted."""
    documents, most = passages.samples.spread()
    if most and len(passages.samples) // most >= FEWEST_DOCUMENTS:
        return
    for key, index, cka in config.maps:
        minibatch = cka.kind == "cka" and cka.estimator == "minibatch" and cka.batches == "random"
        if cka.pairs == "across-documents" and minibatch and not cka.where:
            raise config.error(
                (key, index, "pairs"),
                f"{len(passages.samples):,} samples are of {documents:,} documents, {most:,} of "
                f"one of them: no batches of {FEWEST_DOCUMENTS} different documents can be made",
                "draw fewer of each (data.per_document), take more documents, or "
                'pairs = "all" compares within documents too',
            )


def _note_samples(context: Context, progress: TaskProgress, passages: Any) -> None:
    """Say how many samples were asked for, drawn, left out for which reason, and are stored."""
    from engramcka.extraction import sample_counts

    data, counts = context.config.data, sample_counts(passages)
    reasons = left_out_words(counts["left_out"], context.config)
    stored = len(passages.samples)
    asked = "all" if data.count is None else f"{data.count:,}"
    info = (
        f"{asked} samples asked for, {counts['drawn']:,} drawn"
        f"{', left out: ' + reasons if reasons else ''}; {stored:,} of {counts['documents']:,} "
        f"documents, at most {counts['most_of_a_document']:,} of one"
    )
    progress.note("samples", info, asked=data.samples, **counts, stored=stored)


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
