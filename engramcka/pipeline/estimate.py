"""What each piece of a plan will cost, from shapes alone: floating-point operations and bytes.

Estimates to the leading term: 2 operations a parameter and token in a forward pass, three times
that in training; the LM head only where it is run, and 2 a width and vocabulary entry for each
block that a lens reads. Models are built without memory (torch's meta device) to count their
parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from engramcka.config import (
    Config,
    EngramConfig,
    ImportedModel,
    LoadedModel,
    PythonModel,
    TrainedModel,
)
from engramcka.errors import ConfigError, DataError, StoreError
from engramcka.pipeline.checks import is_local
from engramcka.pipeline.context import Context
from engramcka.pipeline.members import last_member, lens_curves, members, pairs
from engramcka.pipeline.pieces import Piece
from engramcka.pipeline.stages.extract import reads_lens
from engramcka.pipeline.stages.importing import check_import

READINGS = 4  # numbers that the lens keeps of a sample and block
_RANKS_NAMED = 5  # numbers of ranks that a model's memory is said for
CHARACTERS_A_TOKEN = 3.5  # of code and English under a usual byte-level tokenizer


@dataclass(frozen=True)
class Cost:
    """Leading-order cost of one piece; 0 where nothing to speak of."""

    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Shape:
    """What a model's config says about its size."""

    layers: int
    width: int
    parameters: int
    active: int  # parameters that one token's forward pass uses
    itemsize: int  # bytes a hidden-state value
    vocabulary: int = 0

    @property
    def head(self) -> int:
        """Parameters of the LM head."""
        return self.width * self.vocabulary

    @property
    def body(self) -> int:
        """Parameters that a token's pass through the blocks uses."""
        return self.active - self.head


@dataclass(frozen=True)
class Text:
    """How much a model reads."""

    passages: float = 0.0
    tokens: float = 0.0  # of them, up to the last one that a sample needs


def estimate(config: Config, pieces: Sequence[Piece], context: Context | None = None) -> list[Cost]:
    """The cost of every piece, in order.

    Args:
        config: the run's.
        pieces: its plan.
        context: of a run of the config, whose text may have been read already.

    Raises:
        ConfigError: the config of a model that is to be loaded cannot be read.
    """
    shapes = {name: shape_of_model(config, name) for name in config.models}
    tables = {pair.name: table for table in config.cka for pair in pairs(config, table)}
    members_by_store = {
        member.store: member for name in config.models for member in members(config, name)
    }
    text = _text(context or Context(config)) if _draws(config) else Text()
    costs = []
    for piece in pieces:
        if piece.unit == "steps":
            costs.append(_training(config, piece))
        elif piece.stage == "extract":
            lens = reads_lens(config, members_by_store[piece.name])
            model = members_by_store[piece.name].model
            costs.append(_extraction(piece.total, shapes[model], text, lens))
        elif piece.stage == "cka":
            table = tables[piece.name]
            y, x = shapes[table.y], shapes[table.x]
            batch = table.batch_size if table.estimator == "minibatch" else config.data.samples
            costs.append(_map(config.data.samples, min(batch, config.data.samples), y, x))
        elif piece.stage == "lens":
            costs.append(_lens(config, piece, shapes, text))
        else:
            costs.append(Cost())
    return costs


def _training(config: Config, piece: Piece) -> Cost:
    engram = piece.inputs["engram"]
    shape = _shape_of_preset(
        str(piece.inputs["preset"]),
        config.data.vocabulary,
        EngramConfig.model_validate_json(json.dumps(engram)) if engram else None,
        piece.inputs.get("experts"),
    )
    options = config.training
    tokens = options.steps * options.batch_size * options.sequence_length
    return Cost(6.0 * shape.active * tokens, 4.0 * shape.parameters)


def _extraction(samples: int, shape: Shape, text: Text, lens: bool) -> Cost:
    stored = samples * shape.layers * shape.width * shape.itemsize
    read = samples * shape.layers * READINGS * 4 if lens else 0
    flops = 2.0 * shape.body * text.tokens + (_reading(samples, shape) if lens else 0.0)
    return Cost(flops, float(stored + read))


def _reading(samples: int, shape: Shape) -> float:
    """Logits of every block at every sample."""
    return 2.0 * samples * shape.layers * shape.head


def _lens(config: Config, piece: Piece, shapes: Mapping[str, Shape], text: Text) -> Cost:
    """A curve, unless the extraction reads it; or passes over some passages, token by token."""
    kind, _, name = piece.makes.partition("/")
    if kind == "lens":
        curves = {one.name: one for lens in config.lens for one in lens_curves(config, lens)}
        curve = curves[name]
        if curve.memory and reads_lens(config, curve.member):
            return Cost()
        shape = shapes[curve.member.model]
        return Cost(2.0 * shape.body * text.tokens + _reading(piece.total, shape))
    tokens = text.tokens * min(1.0, piece.total / text.passages) if text.passages else 0.0
    shape = shapes[name]
    if kind == "memory":  # with it and without, each with the loss of every token
        return Cost(2 * 2.0 * shape.active * tokens)
    return Cost(2.0 * shape.body * tokens)


def drawn(context: Context) -> str:
    """The samples of a run in words; empty where there are none, or the text is to be fetched.

    Raises:
        ConfigError: the text is not what ``[data]`` says, or holds fewer samples.
    """
    data = context.config.data
    if not _draws(context.config) or not is_local(data):
        return ""
    documents, most = context.samples.spread()
    if data.positions != "all":
        told = f"{len(context.samples):,} of {documents:,} documents, at most {most:,} of one"
    elif data.per_document is None:
        told = f"{data.samples:,} tokens, those of whole passages in random order"
    else:
        told = f"{data.samples:,} tokens, at most {data.per_document:,} of one document"
    return f"samples: {told}"


def _draws(config: Config) -> bool:
    """Whether any model reads the text."""
    return any(not isinstance(model, ImportedModel) for model in config.models.values())


def _text(context: Context) -> Text:
    """What a model reads; the text is drawn for it unless it would have to be fetched.

    Raises:
        ConfigError: the text is not what ``[data]`` says.
        DataError: it holds fewer samples.
    """
    data = context.config.data
    if not is_local(data):
        return Text(data.samples, float(data.samples * data.max_length))
    samples = context.samples
    passages = {
        (document, start): min((end - start) / CHARACTERS_A_TOKEN, data.max_length)
        for document, start, end in zip(
            samples.document.tolist(),
            samples.passage_start.tolist(),
            samples.passage_end.tolist(),
            strict=True,
        )
    }
    if data.positions == "all":  # passages are read until they give as many tokens
        lengths = np.array(list(passages.values()))
        gives = lengths if samples.most is None else np.minimum(lengths, samples.most)
        read = min(len(lengths), 1 + int(np.searchsorted(np.cumsum(gives), data.samples)))
        return Text(read, float(lengths[:read].sum()))
    return Text(len(passages), sum(passages.values()))


def _map(samples: int, batch: int, y: Shape, x: Shape) -> Cost:
    """Gram matrices of every layer, then one product of all pairs; half of each by symmetry."""
    grams = samples * batch * (y.layers * y.width + x.layers * x.width)
    pairs = samples * batch * y.layers * x.layers
    return Cost(float(grams + pairs), 8.0 * y.layers * x.layers * 64)


def shape_of_model(config: Config, name: str) -> Shape:
    """What a model's config says, of its last checkpoint; zeros where only its code knows.

    Raises:
        ConfigError: the config of a model that is to be loaded cannot be read.
    """
    model = last_member(config, name).table
    if isinstance(model, PythonModel):
        return Shape(0, 0, 0, 0, 0)  # only its code knows
    if isinstance(model, ImportedModel):
        try:
            _, layers, width = check_import(model)
        except (DataError, StoreError):  # imported already, its files gone
            layers = width = 0
        return Shape(layers, width, 0, 0, 4)
    if isinstance(model, TrainedModel):
        return _shape_of_preset(model.preset, config.data.vocabulary, model.engram)
    empty, itemsize = _empty(config, name, model)
    return _shape(empty, itemsize)


def shared_out(config: Config) -> Iterator[str]:
    """A line a model that ranks are to hold as one: how many may, and what each holds of it.

    Raises:
        ConfigError: a model has no tensor-parallel plan, or cannot be read.
    """
    from engramcka.models.tensor_parallel import sharding_of

    for name in config.models:
        model = last_member(config, name).table
        if not isinstance(model, LoadedModel) or model.parallel != "tp":
            continue
        empty, itemsize = _empty(config, name, model)
        try:
            sharding = sharding_of(empty, itemsize)
        except ConfigError as error:
            raise config.error(("models", name, "parallel"), str(error)) from error
        held = [
            f"{ranks} ranks {sharding.held(ranks) * itemsize / 1e9:.3g} GB"
            for ranks in sharding.allowed[:_RANKS_NAMED]
        ]
        yield (
            f"{name}: parallel = 'tp', all ranks hold it as one; weights a rank: "
            f"{', '.join(held) or 'it cannot be shared out'} ({sharding.reason})"
        )


def _empty(config: Config, name: str, model: LoadedModel) -> tuple[Any, int]:
    """A model without weights, and the bytes of one of its numbers."""
    from transformers import AutoConfig

    from engramcka.models.checkpoint_files import check_files

    check_files(model.path, model.trust_remote_code)
    try:
        found = AutoConfig.from_pretrained(
            model.path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise config.error(("models", name, "path"), f"no model to be read ({reason})") from error
    from engramcka.models.loading import empty_model, weight_bytes

    empty = empty_model(model.path, found, model.trust_remote_code)
    return empty, weight_bytes(found, model.dtype)


@cache
def _shape_of_preset(
    preset: str, vocabulary: int, engram: EngramConfig | None, experts: int | None = None
) -> Shape:
    from engramcka.models.build import meta_model

    return _shape(meta_model(preset, vocabulary, engram, experts=experts), 4)


def _shape(model: Any, itemsize: int) -> Shape:
    from engramcka.models.build import count_parameters

    count = count_parameters(model)
    text = model.config.get_text_config(decoder=True)
    return Shape(
        text.num_hidden_layers,
        text.hidden_size,
        count.total,
        count.active,
        itemsize,
        text.vocab_size,
    )
