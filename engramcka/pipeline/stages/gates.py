"""Stage lens, token by token: gates of memory modules, and losses with and without memory.

They are read of some whole passages that the run's samples stand in, and of other text if the
config names some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from engramcka.config import GatesTable
from engramcka.errors import ConfigError
from engramcka.pipeline.context import Context
from engramcka.pipeline.sources import Checkpoint, OpenModel
from engramcka.pipeline.spec import RunSpec
from engramcka.pipeline.stages.lens import lens_task_fields
from engramcka.pipeline.stages.models import (
    noted,
    open_model,
    require_known_tokens,
)
from engramcka.pipeline.tasks import Task
from engramcka.progress import TaskProgress
from engramcka.results.base import Result
from engramcka.stores import provenance, results

if TYPE_CHECKING:
    from engramcka.lens import Frequencies, TokenText

GATES_VERSION = 1
"""Grows when the numbers change, so that older results are computed again."""

Measure = Callable[
    ..., tuple[Result, int]
]  # an `_OverPassages` -> what it holds, of how many tokens
SHOWN = 3  # passages kept token by token where the config names no texts


def gates_tasks(spec: RunSpec, gates: GatesTable) -> Iterator[Task]:
    """The gates of every model, and its losses with and without memory."""
    from engramcka.data import other_inputs

    for model in gates.models:
        source = spec.models[model]
        made_from = {
            "model": source.last.inputs,
            "passages": gates.passages,
            "label": source.label,
            "version": GATES_VERSION,
            **({"frequency": True} if gates.frequency else {}),
            **({"other": other_inputs(gates.other)} if gates.other else {}),
        }
        wanted: dict[str, tuple[Measure, dict[str, Any]]] = {
            "gates": (_gates, {**made_from, "texts": list(gates.texts)})
        }
        if gates.memory_off:
            wanted["memory"] = (_memory, made_from)
        for kind, (measure, inputs) in wanted.items():
            work = partial(measure_passages, measure=measure, gates=gates, inputs=inputs)
            yield Task(
                name=f"{model}, {kind}",
                total=gates.passages,
                unit="passages",
                work=partial(work, checkpoint=source.last),
                needs=(source.training.name,) if source.training else (),
                **lens_task_fields(spec, kind, model, inputs, source),
            )


@dataclass(frozen=True)
class _OverPassages:
    """A model that is read token by token."""

    context: Context
    opened: OpenModel
    name: str
    texts: list[TokenText]
    gates: GatesTable
    progress: TaskProgress
    checkpoint: Checkpoint

    @property
    def frequency(self) -> Frequencies | None:
        """How often the texts' n-grams stood in what the model was trained on, if it is asked."""
        from engramcka.lens import frequencies
        from engramcka.pipeline.stages.train import training_sequences

        training = self.checkpoint.source.training
        if not self.gates.frequency or training is None:
            return None
        read = training_sequences(self.context, training, self.opened.tokenizer)
        memory = next(iter(self.opened.memories.values()))
        return frequencies(memory, [text.ids for text in self.texts], read)


def measure_passages(
    context: Context,
    progress: TaskProgress,
    *,
    measure: Measure,
    gates: GatesTable,
    checkpoint: Checkpoint,
    inputs: Mapping[str, Any],
) -> None:
    """Store what ``measure`` finds in one model over the passages."""
    from engramcka.lens import require_memory

    with open_model(context, checkpoint) as opened:
        require_memory(opened.memories, checkpoint.model)
        opened.require_memories()
        texts = _passages(context, opened.tokenizer, gates.passages)
        texts += _other_texts(context, opened.tokenizer, gates)
        require_known_tokens(context, checkpoint, opened, [text.ids for text in texts])
        facts = {
            "model": opened.load_args,
            "device": context.device,
            "passages": len(texts),
            "versions": provenance.versions(),
        }
        read = _OverPassages(context, opened, checkpoint.model, texts, gates, progress, checkpoint)
        result, tokens = measure(read, label=checkpoint.source.label, provenance=facts)
        notes = noted(checkpoint, opened.notes)
        result = replace(cast(Any, result), warnings=(*notes, *result.warnings))
    if context.world.first:
        results.write_result(context.results, checkpoint.model, result, inputs)
    progress.update(progress.total, info=f"{len(texts)} passages, {tokens} tokens")


def _gates(read: _OverPassages, **facts: Any) -> tuple[Result, int]:
    """The gates' averages, with some texts whole; and of how many tokens."""
    from engramcka.lens import collision_shares, gate_map, require_gates, token_gates, token_texts
    from engramcka.results import GateText

    opened, texts = read.opened, read.texts
    memories = opened.memories
    require_gates(memories, read.name)
    gates_of = partial(token_gates, opened.model, memories)
    own = [("", text) for text in read.gates.texts]
    length = read.context.config.data.max_length
    shown = token_texts(opened.tokenizer, own, [()] * len(own), length) if own else texts[:SHOWN]
    alpha, shares, rows = _over_tokens(opened, texts, gates_of, read.progress)
    ids = [text.ids for text in texts if not text.is_other]  # which stand before the others
    rows = rows[: sum(map(len, ids))]
    frequency = read.frequency
    shown_alpha = _over_tokens(opened, shown, gates_of, None)[0]
    ends = np.cumsum([len(text.ids) for text in shown])[:-1]
    result = gate_map(
        texts,
        alpha,
        shares,
        layers=list(memories),
        orders=next(iter(memories.values())).orders if shares.shape[-1] else (),
        collisions=collision_shares(memories, ids, rows),
        frequency=frequency,
        frequency_collisions=(
            None
            if frequency is None
            else collision_shares(memories, ids, rows, frequency.first(len(rows)))
        ),
        shown=[
            GateText(text.pieces, part)
            for text, part in zip(shown, np.split(shown_alpha, ends), strict=True)
        ],
        **facts,
    )
    return result, len(alpha)


def _memory(read: _OverPassages, **facts: Any) -> tuple[Result, int]:
    """The loss with memory and without, by token class; and of how many tokens."""
    import torch

    from engramcka.lens import memory_ablation, token_losses
    from engramcka.models import memory_off

    opened, texts = read.opened, read.texts
    losses = []
    for silent in (False, True):
        with memory_off(opened.model, opened.memories) if silent else nullcontext():
            opened.as_one.step()
            ids = torch.from_numpy(texts[0].ids).to(read.context.device)
            head = _head(opened, ids, read.name)

            def work(ids: Any, mask: Any, head: Any = head) -> tuple[Any]:
                return (token_losses(opened.model, head, ids, mask),)

            losses.append(_over_tokens(opened, texts, work, read.progress, half=silent)[0])
    result = memory_ablation(texts, *losses, frequency=read.frequency, **facts)
    return result, int(result.counts[0])


def _head(opened: OpenModel, ids: Any, name: str) -> Any:
    """A model's read-out; None where only its own logits can be read.

    Raises:
        ConfigError: there are none either.
    """
    from engramcka.lens import read_head, require_logits

    try:
        return read_head(opened.model, ids)
    except ConfigError:
        require_logits(opened.model, ids, name)
        return None


def _passages(context: Context, tokenizer: Any, count: int) -> list[TokenText]:
    """Passages of the run's samples, at most so many, spread evenly over the text."""
    from engramcka.data.documents import entities_between
    from engramcka.lens import token_texts

    samples = context.samples
    keys = zip(
        samples.document.tolist(),
        samples.passage_start.tolist(),
        samples.passage_end.tolist(),
        strict=True,
    )
    passages = sorted(set(keys))
    chosen = np.unique(np.linspace(0, len(passages) - 1, min(count, len(passages))).astype(int))
    documents = {document.id: document for document in context.corpus.validation}
    texts, entities = [], []
    for document, first, last in (passages[index] for index in chosen.tolist()):
        texts.append((document, documents[document].text[first:last]))
        entities.append(
            [
                entity._replace(start=entity.start - first, end=entity.end - first)
                for entity in entities_between(documents[document], first, last)
            ]
        )
    return token_texts(tokenizer, texts, entities, context.config.data.max_length)


def _other_texts(context: Context, tokenizer: Any, gates: GatesTable) -> list[TokenText]:
    """The beginnings of as many other documents as there are passages at most, in their order.

    Raises:
        ConfigError: there are none.
    """
    from engramcka.data import DataKeyError, other_documents
    from engramcka.lens import token_texts

    if gates.other is None:
        return []
    try:
        documents = other_documents(gates.other, gates.passages)
    except DataKeyError as error:
        path = ("gates", context.config.gates.index(gates), "other")
        raise context.config.error(path, error.problem, error.allowed) from error
    chosen = [(document.id, document.text) for document in documents]
    found = token_texts(tokenizer, chosen, [()] * len(chosen), context.config.data.max_length)
    return [replace(text, is_other=True) for text in found]


def _over_tokens(
    opened: OpenModel,
    texts: Sequence[TokenText],
    work: Callable[[Any, Any], tuple[Any, ...]],
    progress: TaskProgress | None,
    half: bool | None = None,
) -> tuple[Any, ...]:
    """What ``work`` gives for padded batches (ids, mask), back in the order of the texts.

    Args:
        opened: the model.
        texts: at least one with a token.
        work: gives tensors with a row a real token, sequence by sequence.
        progress: hears how many texts are done.
        half: of a work in two passes, whether this is the second; None for one pass.
    """
    import torch

    from engramcka.extraction.batching import TOKEN_BUDGET, length_batches, pad

    device = next(opened.model.parameters()).device
    lengths = [len(text.ids) for text in texts]
    found: dict[int, list[Any]] = {}
    for batch in length_batches(lengths, TOKEN_BUDGET[device.type]):
        indices = [index for index in batch.tolist() if lengths[index]]
        if not indices:
            continue
        ids, mask = pad([texts[index].ids for index in indices], opened.pad_id)
        opened.as_one.step()
        values = work(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        ends = np.cumsum([lengths[index] for index in indices])[:-1]
        parts = [np.split(value.cpu().numpy(), ends) for value in values]
        for place, index in enumerate(indices):
            found[index] = [part[place] for part in parts]
        if progress is not None:
            share = len(found) / len(texts)
            share = share if half is None else (share + half) / 2
            progress.update(int(share * progress.total), progress.total)
    order = sorted(found)
    width = len(found[order[0]])
    return tuple(np.concatenate([found[index][at] for index in order]) for at in range(width))
