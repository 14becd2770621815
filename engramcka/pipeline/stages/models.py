"""A checkpoint loaded over the run's ranks, and the run's samples placed in its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engramcka.pipeline.context import Context
from engramcka.pipeline.sources import Checkpoint, OpenModel, Source
from engramcka.pipeline.tasks import Ranks

if TYPE_CHECKING:
    from engramcka.data import Passages

NOTES = "notes"
"""Attribute of an activation store: what is to be known of its model's checkpoint, if anything."""


def ranks_for(source: Source, ranks: Ranks) -> Ranks:
    """Who works with a model: those given, or all as one where the config says so."""
    return "as one" if source.is_shared_out else ranks


@contextmanager
def open_model(context: Context, checkpoint: Checkpoint) -> Iterator[OpenModel]:
    """Load a checkpoint, for use in the `with` block alone.

    With parallel = "tp" all ranks hold it as one, and all of them must go through the block.

    Raises:
        ConfigError: it cannot be shared out over these ranks.
        StoreError: it is not trained yet, it is damaged, or there is nothing to load: imported
            activations.
    """
    source = checkpoint.source
    if not source.is_shared_out:
        yield source.open(checkpoint, context.device)
        return
    world = context.world
    _require_gpus(context)
    with world.as_one(context.device):
        opened = source.open(checkpoint, context.device)
        load_args = {**opened.load_args, "ranks": world.size}
        yield replace(opened, load_args=load_args, as_one=world)


def require_own_gpus(context: Context, checkpoint: Checkpoint) -> None:
    """Refuse ranks that each spread a model over GPUs of the others; all of them call this.

    Raises:
        ConfigError: two ranks see the same GPU.
    """
    if checkpoint.source.is_spread and context.device == "cuda" and context.world.size > 1:
        import torch

        seen = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        context.world.require_own_gpus([str(gpu.uuid) for gpu in seen])


def _require_gpus(context: Context) -> None:
    """transformers shares a model out over GPUs wherever there are some."""
    import torch

    if context.device == "cpu" and torch.cuda.is_available():
        raise context.config.error(
            ("run", "device"),
            "found 'cpu', and parallel = 'tp' takes the GPUs of this machine",
            "allowed: 'auto' or 'cuda'",
        )


def passages_for(context: Context, tokenizer: Any, checkpoint: Checkpoint) -> Passages:
    """The run's samples in the tokens of one model, in the text that it is to read."""
    from engramcka.data import place_samples

    data = context.config.data
    with context.pointing_at_keys():
        return place_samples(
            tokenizer,
            context.corpus,
            context.samples,
            data.max_length,
            positions=data.positions,
            count=data.count,
            seed=context.config.run.seed,
            per_document=data.per_document,
            skip_first=data.skip_first,
            shuffled=checkpoint.table.text == "shuffled",
        )


def noted(checkpoint: Checkpoint, notes: Iterable[str] | None) -> tuple[str, ...]:
    """What is to be known of a checkpoint, as warnings of a result that it is part of."""
    return tuple(f"{checkpoint.source.label}: {note}" for note in notes or ())


def require_known_tokens(
    context: Context, checkpoint: Checkpoint, opened: OpenModel, texts: Iterable[Any]
) -> None:
    """Refuse texts with a token that the model has no row for, before any of them is run.

    Args:
        context: the run's.
        checkpoint: of the model.
        opened: the model.
        texts: (tokens,) ids of each.

    Raises:
        ConfigError: names the model, the token and its id.
    """
    from engramcka.models.vocabulary import require_rows

    where = f"models.{checkpoint.model}"
    require_rows(where, opened.model, opened.tokenizer, texts)
