"""What each task of a plan will cost, from shapes alone: floating-point operations and bytes.

Estimates to the leading term: 2 operations a parameter and token in a forward pass, three times
that in training; the LM head only where it is run, and 2 a width and vocabulary entry for each
block that a lens reads. Models are built without memory (torch's meta device) to count their
parameters.

Maps with batches that no memory of this machine could hold are refused by `check_room`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engramcka.config import Config
from engramcka.errors import ConfigError, DataError, StoreError
from engramcka.pipeline.context import Context, is_local
from engramcka.pipeline.sources import Shape
from engramcka.pipeline.spec import CheckpointPair, RunSpec
from engramcka.pipeline.stages.extract import reads_lens
from engramcka.pipeline.tasks import Task
from engramcka.ram import GIB, total_bytes

_SVD = 22.0  # operations of a decomposition with vectors, over the cube of its size
READINGS_KEPT = 4  # numbers that the lens keeps of a sample and block
CHARACTERS_A_TOKEN = 3.5  # of code and English under a usual byte-level tokenizer
_MOST_LAYERS = 1024  # of two models; batches that fit with so many need no look at the models
_SMALLEST = 64  # batch size that a message advises


@dataclass(frozen=True)
class Cost:
    """Leading-order cost of one task; 0 where it is negligible."""

    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Text:
    """How much a model reads; zeros where the text is to be fetched for all that it holds."""

    samples: float = 0.0
    passages: float = 0.0
    tokens: float = 0.0  # of them, up to the last one that a sample needs


def estimate(config: Config, tasks: Sequence[Task], context: Context | None = None) -> list[Cost]:
    """The cost of every task, in order.

    Args:
        config: the run's.
        tasks: its plan.
        context: of a run of the config, whose text may have been read already.

    Raises:
        ConfigError: the config of a model that is to be loaded cannot be read.
    """
    context = context or Context(config)
    spec = RunSpec(config, context)
    shapes = {name: source.shape(source.last) for name, source in spec.models.items()}
    maps = {
        (table.kind, pair.name): (table, pair)
        for _, _, table in config.maps
        for pair in spec.pairs(table)
    }
    by_store = {
        checkpoint.store: checkpoint
        for source in spec.models.values()
        for checkpoint in source.checkpoints
    }
    text = _text(context) if _reads_text(spec) else Text()
    costs = []
    for task in tasks:
        if task.is_training:
            costs.append(_training(config, task))
        elif task.stage == "extract":
            checkpoint = by_store[task.name]
            shape = shapes[checkpoint.model]
            costs.append(
                _extraction(task.total or text.samples, shape, text, reads_lens(checkpoint))
            )
        elif task.stage in ("cka", "map"):
            table, pair = maps[task.stage, task.name]
            y, x = (shapes[name] for name in pair.models)
            samples = min(spec.drawn(pair.y), spec.drawn(pair.x)) or text.samples
            if table.measured_by in ("procrustes", "svcca", "pwcca"):
                costs.append(_decompositions(samples, y, x))
                continue
            is_minibatch = table.kind == "cka" and table.estimator == "minibatch"
            batch = table.batch_size if is_minibatch else samples
            costs.append(_map(samples, min(batch, samples), y, x))
        elif task.stage == "lens":
            costs.append(_lens(spec, task, shapes, text))
        else:
            costs.append(Cost())
    return costs


def _training(config: Config, task: Task) -> Cost:
    training = task.training
    assert training is not None, "a task that trains"
    shape = training.backbone.shape(training.engram, training.experts)
    options = config.training
    tokens = options.steps * options.batch_size * options.sequence_length
    return Cost(6.0 * shape.active * tokens, 4.0 * shape.parameters)


def _extraction(samples: float, shape: Shape, text: Text, lens: bool) -> Cost:
    stored = samples * shape.layers * shape.width * shape.itemsize
    read = samples * shape.layers * READINGS_KEPT * 4 if lens else 0
    flops = 2.0 * shape.body * text.tokens + (_reading(samples, shape) if lens else 0.0)
    return Cost(flops, float(stored + read))


def _reading(samples: float, shape: Shape) -> float:
    """Logits of every block at every sample."""
    return 2.0 * samples * shape.layers * shape.head


def _lens(spec: RunSpec, task: Task, shapes: Mapping[str, Shape], text: Text) -> Cost:
    """A curve, unless the extraction reads it; or passes over some passages, token by token."""
    kind, _, name = task.makes.partition("/")
    if kind == "lens":
        curves = {one.name: one for lens in spec.config.lens for one in spec.curves(lens)}
        curve = curves[name]
        if curve.memory and reads_lens(curve.checkpoint):
            return Cost()
        shape = shapes[curve.checkpoint.model]
        return Cost(2.0 * shape.body * text.tokens + _reading(task.total or text.samples, shape))
    tokens = text.tokens * min(1.0, task.total / text.passages) if text.passages else 0.0
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
    if not _reads_text(RunSpec(context.config)) or not is_local(data):
        return ""
    documents, most = context.samples.spread()
    if data.positions != "all":
        words = f"{len(context.samples):,} of {documents:,} documents, at most {most:,} of one"
    elif data.per_document is None and data.count is None:
        words = f"all tokens of {len(context.samples):,} passages of {documents:,} documents"
    elif data.per_document is None:
        words = f"{data.samples:,} tokens, those of whole passages in random order"
    elif data.count is None:
        words = f"all tokens, at most {data.per_document:,} of one document"
    else:
        words = f"{data.samples:,} tokens, at most {data.per_document:,} of one document"
    return f"samples: {words}"


def _reads_text(spec: RunSpec) -> bool:
    """Whether any model reads the text."""
    return any(source.runs_here for source in spec.models.values())


def _text(context: Context) -> Text:
    """What a model reads; the text is drawn for it unless it would have to be fetched.

    Raises:
        ConfigError: the text is not what ``[data]`` says.
        DataError: it holds fewer samples.
    """
    data = context.config.data
    if not is_local(data):
        count = float(data.count or 0)
        return Text(count, count, count * data.max_length)
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
        count = float(data.count or gives.sum())
        read = min(len(lengths), 1 + int(np.searchsorted(np.cumsum(gives), count)))
        return Text(count, read, float(lengths[:read].sum()))
    return Text(len(samples), len(passages), sum(passages.values()))


def _map(samples: float, batch: float, y: Shape, x: Shape) -> Cost:
    """Gram matrices of every layer, then one product of all pairs; half of each by symmetry."""
    grams = samples * batch * (y.layers * y.width + x.layers * x.width)
    pairs = samples * batch * y.layers * x.layers
    return Cost(float(grams + pairs), 8.0 * y.layers * x.layers * 64)


def _decompositions(samples: float, y: Shape, x: Shape) -> Cost:
    """The cross-product of every pair of layers, and its singular value decomposition."""
    small = min(samples, y.width, x.width)
    product = 2.0 * samples * y.width * x.width
    pairs = y.layers * x.layers
    return Cost(pairs * (product + _SVD * small**3), 8.0 * pairs * 64)


def shared_out(config: Config) -> Iterator[str]:
    """A line a model that ranks are to hold as one: how many may, and what each holds of it.

    Raises:
        ConfigError: a model has no tensor-parallel plan, or cannot be read.
    """
    for source in RunSpec(config).models.values():
        if line := source.sharing():
            yield line


def check_room(config: Config, tasks: Sequence[Task]) -> None:
    """Refuse maps that are to do and too large for the memory of this machine.

    What is free when a map is computed is checked then, in `engramcka.similarity`.

    Raises:
        ConfigError: names the map's batch size, and one that fits.
    """
    spec = RunSpec(config)
    for key, index, table in config.maps:
        if table.kind != "cka" or table.estimator != "minibatch":
            continue
        by_models: dict[tuple[str, str], list[CheckpointPair]] = {}
        for pair in spec.pairs(table):
            by_models.setdefault(pair.models, []).append(pair)
        for models, pairs in by_models.items():
            names = {pair.name for pair in pairs}
            stores = {checkpoint.store for pair in pairs for checkpoint in (pair.y, pair.x)}
            if any(t.stage == "cka" and t.name in names and not t.is_done() for t in tasks):
                sizes = (t.total for t in tasks if t.stage == "extract" and t.name in stores)
                samples = max(sizes, default=spec.samples) or table.batch_size
                _check_table(spec, (key, index), models, min(table.batch_size, samples))


def _check_table(spec: RunSpec, place: tuple[str, int], models: tuple[str, str], n: int) -> None:
    """Refuse batches of n samples of two models that no memory of this machine could hold."""
    from engramcka.similarity.minibatch import workspace_bytes

    like = _empty_tensor(spec.config)
    total = total_bytes(like.device)
    if workspace_bytes([1] * _MOST_LAYERS, _edges(n), like) < total:
        return
    y, x = (_widths(spec, model) for model in models)
    if not y or not x or workspace_bytes([*y, *x], _edges(n), like) < total:
        return
    fits = next(
        (size for size in _halves(n) if workspace_bytes([*y, *x], _edges(size), like) < total / 2),
        None,
    )
    raise spec.config.error(
        (*place, "batch_size"),
        f"a batch of {n} samples of {len(y)} + {len(x)} layers needs "
        f"{workspace_bytes([*y, *x], _edges(n), like) / GIB:.1f} GiB of memory, there are "
        f"{total / GIB:.1f} GiB here",
        f"{fits} would fit" if fits else "a larger machine may hold it",
    )


def _empty_tensor(config: Config) -> Any:
    """An empty tensor where maps are computed, as far as this machine shows."""
    import torch

    gpu = config.run.device != "cpu" and torch.cuda.is_available()
    return torch.empty(0, device="cuda" if gpu else "cpu")


def _widths(spec: RunSpec, model: str) -> list[int]:
    """Width of every layer of a model; none where only a later stage can tell."""
    try:
        source = spec.models[model]
        shape = source.shape(source.last)
    except (ConfigError, DataError, StoreError):
        return []
    return [shape.width] * shape.layers


def _edges(n: int) -> list[int]:
    """First sample of each group of a batch of n, and n: of as many as are left out in turn."""
    from engramcka.similarity.documents import groups_left_out

    groups = groups_left_out(n)
    return [n * group // groups for group in range(groups + 1)]


def _halves(n: int) -> Iterator[int]:
    """Powers of two below n, falling."""
    size = 1 << (n - 1).bit_length() - 1
    while size >= _SMALLEST:
        yield size
        size //= 2
