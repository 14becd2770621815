"""Gates of Engram modules and losses without memory, pieces of stage lens.

Both read some of the passages that the run's samples stand in, whole, token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engramcka.config import Config, GatesTable
from engramcka.pipeline.context import Context
from engramcka.pipeline.inputs import extract_inputs
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.models import OpenModel, open_model, ranks_for
from engramcka.pipeline.units import Unit
from engramcka.progress import Task
from engramcka.stores import layout, provenance, results

if TYPE_CHECKING:
    from engramcka.lens import TokenText

VERSION = 1
"""Grows when the numbers change, so that older results are made anew."""

SHOWN = 3  # passages kept token by token where the config names no texts


def gates_pieces(
    config: Config, run: Path, gates: GatesTable, units: Mapping[str, Unit]
) -> Iterator[Piece]:
    """The gates of every model, and its losses with and without memory."""
    for model in gates.models:
        unit = units.get(model)
        made_from = {
            "model": extract_inputs(config, model, unit),
            "passages": gates.passages,
            "label": config.label(model),
            "version": VERSION,
        }
        wanted: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
            "gates": (compute_gates, {**made_from, "texts": list(gates.texts)})
        }
        if gates.memory_off:
            wanted["memory"] = (compute_memory, made_from)
        for kind, (work, inputs) in wanted.items():
            yield Piece(
                stage="lens",
                name=f"{model}, {kind}",
                total=gates.passages,
                unit="passages",
                inputs=inputs,
                is_done=partial(_is_there, run / layout.RESULTS, kind, model, inputs),
                work=partial(work, gates=gates, name=model, unit=unit, inputs=inputs),
                makes=f"{kind}/{model}",
                needs=(unit.name,) if unit else (),
                ranks=ranks_for(config, model, "first"),
            )


def _is_there(path: Path, kind: str, name: str, inputs: Mapping[str, Any]) -> bool:
    return bool(results.read_inputs(path, kind, name) == inputs)


def compute_gates(
    context: Context,
    task: Task,
    *,
    gates: GatesTable,
    name: str,
    unit: Unit | None,
    inputs: Mapping[str, Any],
) -> None:
    """Average one model's gates over the passages and store them, with some texts whole."""
    from engramcka.lens import collision_shares, gate_map, require_gates, token_gates, token_texts
    from engramcka.results import GateText

    with open_model(context, name, unit) as opened:
        layers = sorted(require_gates(opened.model, name))
        texts = _passages(context, opened.tokenizer, gates.passages)
        own = [("", text) for text in gates.texts]
        length = context.config.data.max_length
        shown = (
            token_texts(opened.tokenizer, own, [()] * len(own), length) if own else texts[:SHOWN]
        )
        alpha, shares = _over_tokens(opened, texts, partial(token_gates, opened.model), task)
        shown_alpha, _ = _over_tokens(opened, shown, partial(token_gates, opened.model), None)
        ends = np.cumsum([len(text.ids) for text in shown])[:-1]
        result = gate_map(
            texts,
            alpha,
            shares,
            layers=layers,
            orders=opened.model.hashing.orders,
            collisions=collision_shares(opened.model.hashing, [text.ids for text in texts]),
            shown=[
                GateText(text.pieces, part)
                for text, part in zip(shown, np.split(shown_alpha, ends), strict=True)
            ],
            label=context.config.label(name),
            provenance=_facts(context, opened, len(texts)),
        )
    if context.world.first:
        results.write_result(context.results, name, result, inputs)
    task.update(task.total, info=f"{len(texts)} passages, {len(alpha)} tokens")


def compute_memory(
    context: Context,
    task: Task,
    *,
    gates: GatesTable,
    name: str,
    unit: Unit | None,
    inputs: Mapping[str, Any],
) -> None:
    """One model's loss on the passages with its memory and without, stored by token class."""
    import torch

    from engramcka.lens import memory_ablation, read_head, require_engram, token_losses
    from engramcka.models import memory_off

    with open_model(context, name, unit) as opened:
        require_engram(opened.model, name)
        texts = _passages(context, opened.tokenizer, gates.passages)
        losses = []
        for silent in (False, True):
            with memory_off(opened.model) if silent else nullcontext():
                opened.as_one.step()
                head = read_head(opened.model, torch.from_numpy(texts[0].ids).to(context.device))

                def work(ids: Any, mask: Any, head: Any = head) -> tuple[Any]:
                    return (token_losses(opened.model, head, ids, mask),)

                losses.append(_over_tokens(opened, texts, work, task, half=silent)[0])
        result = memory_ablation(
            texts,
            *losses,
            label=context.config.label(name),
            provenance=_facts(context, opened, len(texts)),
        )
    if context.world.first:
        results.write_result(context.results, name, result, inputs)
    task.update(task.total, info=f"{len(texts)} passages, {result.counts[0]} tokens")


def _facts(context: Context, opened: OpenModel, passages: int) -> dict[str, Any]:
    return {
        "model": opened.where,
        "device": context.device,
        "passages": passages,
        "versions": provenance.versions(),
    }


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


def _over_tokens(
    opened: OpenModel,
    texts: Sequence[TokenText],
    work: Callable[[Any, Any], tuple[Any, ...]],
    task: Task | None,
    half: bool | None = None,
) -> tuple[Any, ...]:
    """What ``work`` gives for padded batches (ids, mask), back in the order of the texts.

    Args:
        opened: the model.
        texts: at least one with a token.
        work: gives tensors with a row a real token, sequence by sequence.
        task: told how many texts are done.
        half: of a work in two passes, whether this is the second; None for one pass.
    """
    import torch

    from engramcka.extraction.forward import TOKEN_BUDGET, length_batches, pad

    device = next(opened.model.parameters()).device
    lengths = [len(text.ids) for text in texts]
    found: dict[int, list[Any]] = {}
    for batch in length_batches(lengths, TOKEN_BUDGET[device.type]):
        members = [index for index in batch.tolist() if lengths[index]]
        if not members:
            continue
        ids, mask = pad([texts[index].ids for index in members], opened.pad_id)
        opened.as_one.step()
        values = work(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
        ends = np.cumsum([lengths[index] for index in members])[:-1]
        parts = [np.split(value.cpu().numpy(), ends) for value in values]
        for place, index in enumerate(members):
            found[index] = [part[place] for part in parts]
        if task is not None:
            share = len(found) / len(texts)
            share = share if half is None else (share + half) / 2
            task.update(int(share * task.total), task.total)
    order = sorted(found)
    width = len(found[order[0]])
    return tuple(np.concatenate([found[index][at] for index in order]) for at in range(width))
