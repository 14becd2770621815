"""The parts of a decoder, and the points in it where hidden states are captured.

Blocks are found by what they are, not by what a model family calls them: they are the one list of
modules that is as long as the config says the model is deep, of several the text's own. That what
leaves one block enters the next is then seen in a pass (`engramcka.models.stream`). Attention and
MLP inside a block are recognised by the names of their classes; any other module is named by a
pattern.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.hooks import CapturePoint

BLOCK, ATTENTION, MLP = "block", "attention", "mlp"
ENGRAM_IN, ENGRAM_OUT = "engram-in", "engram-out"

NAME_THEM = (
    "its residual stream cannot be found by itself; name another point (points), or write "
    'source = "python", where its blocks can be named (blocks = "..")'
)

_PARTS = {
    ATTENTION: re.compile(r"attn|attention|mixer", re.IGNORECASE),
    MLP: re.compile(r"mlp|moe|feed_?forward|ffn|experts", re.IGNORECASE),
}
_NOT_PARTS = re.compile(r"norm|_ln|ln_|hyper|_hc$|dropout", re.IGNORECASE)


class Memory(Protocol):
    """What a point of the stream around a memory module is taken from."""

    def stands_before(self, block: nn.Module) -> bool:
        """Whether it changes what enters a block."""

    @property
    def before(self) -> CapturePoint:
        """The stream before the memory is added."""

    @property
    def after(self) -> CapturePoint:
        """The stream with the memory added."""


_NO_MEMORIES: Mapping[int, Memory] = {}


@dataclass(frozen=True)
class Blocks:
    """The blocks of a decoder or encoder.

    Attributes:
        path: name of the block list inside the model, as ``model.layers``.
        modules: the blocks, first to last.
    """

    path: str
    modules: tuple[nn.Module, ...]


def find_blocks(model: PreTrainedModel) -> Blocks:
    """The blocks of a causal LM, an encoder, or the encoder of an encoder-decoder.

    Raises:
        ConfigError: the model is a whole encoder-decoder, or its blocks cannot be told apart.
    """
    halves = [half for half in ("encoder", "decoder") if hasattr(model.base_model, half)]
    if model.config.is_encoder_decoder and len(halves) == 2:
        raise ConfigError(
            f"{type(model).__name__} is an encoder-decoder, which has two stacks of blocks; give "
            'one half of it, as source = "python" with a function that returns its encoder '
            "(model.get_encoder()) and its tokenizer"
        )
    path, blocks = _block_list(model)
    return Blocks(path, tuple(blocks))


def _block_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    half = "encoder" if model.config.is_encoder_decoder else "decoder"
    depth = getattr(model.config.get_text_config(**{half: True}), "num_hidden_layers", None)
    if not isinstance(depth, int):
        raise ConfigError(
            f"{type(model).__name__}: its config does not say how many blocks it has; {NAME_THEM}"
        )
    # Else a list that divides the depth: blocks of two layers, or a list that is run in a loop.
    outer = _outer_lists(model, {depth}) or _outer_lists(
        model, {number for number in range(2, depth) if depth % number == 0}
    )
    if not outer:
        raise ConfigError(
            f"{type(model).__name__} has no list of {depth} blocks, as its config says it should; "
            f"{NAME_THEM}"
        )
    return max(_of_the_text(model, outer), key=lambda found: _size(found[1]))


def _of_the_text(
    model: PreTrainedModel, lists: list[tuple[str, nn.ModuleList]]
) -> list[tuple[str, nn.ModuleList]]:
    """Of several lists, those nearest to the token embedding: others are of pictures or sound."""
    if len(lists) == 1:
        return lists
    table = model.get_input_embeddings()
    place = next((path for path, module in model.named_modules() if module is table), "")
    inside: list[tuple[str, nn.ModuleList]] = []
    while place and not inside:
        place = place.rpartition(".")[0]
        inside = [found for found in lists if not place or found[0].startswith(f"{place}.")]
    inside = inside or lists
    least = min(path.count(".") for path, _ in inside)
    return [found for found in inside if found[0].count(".") == least]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _outer_lists(model: nn.Module, lengths: set[int]) -> list[tuple[str, nn.ModuleList]]:
    """Lists of modules of one of these lengths that are in no other such list, with their names."""
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) in lengths
    ]
    return [
        (path, module)
        for path, module in lists
        if not any(path.startswith(f"{other}.") for other, _ in lists)
    ]


class OwnModel(nn.Module):
    """A user's own architecture, called with those of our arguments that it takes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        parameters = inspect.signature(inner.forward).parameters.values()
        self._takes = {parameter.name for parameter in parameters}
        self._takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)

    def forward(self, input_ids: Any, **options: Any) -> Any:
        """Token ids (batch, tokens), and attention_mask and use_cache where it takes them."""
        taken = {name: value for name, value in options.items() if name in self._takes}
        return self.inner(input_ids, **(options if self._takes_any else taken))


def capture_points(
    model: Any,
    points: str = BLOCK,
    *,
    blocks: str | None = None,
    embedding: bool = False,
    memories: Mapping[int, Memory] = _NO_MEMORIES,
) -> dict[int, CapturePoint]:
    """Layer number -> where its hidden state is.

    Args:
        model: a decoder.
        points: "block" (the residual stream after it), "attention" or "mlp" (what they give, before
            it is added to the stream), "engram-in" or "engram-out" (the stream before and after a
            memory module), or a pattern over the names of modules within a block, as
            ``self_attn.o_proj``; see `matches`.
        blocks: a pattern over the names of the blocks; None to find them.
        embedding: take what enters the first block as layer 0.
        memories: its memory modules, as `engramcka.models.memory.find_memories` gives them.

    Raises:
        ConfigError: no such point, or more than one in a block.
    """
    model = model.inner if isinstance(model, OwnModel) else model
    found = numbered_blocks(model, blocks)
    chosen: dict[int, CapturePoint] = {}
    if embedding:
        outside = 1 in memories and memories[1].stands_before(found[1])
        chosen[0] = memories[1].before if outside else CapturePoint(found[1], "input")
    if points in (ENGRAM_IN, ENGRAM_OUT):
        for number, memory in memories.items():
            chosen[number] = memory.before if points == ENGRAM_IN else memory.after
    else:
        chosen |= {
            number: CapturePoint(part, taps_stream=points == BLOCK)
            for number, block in found.items()
            for part in _part(block, points, number)
        }
    if not set(chosen) - {0}:
        raise ConfigError(_nothing(model, found[1], points))
    return chosen


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a module.

    ``*`` stands for any part of one dotted piece, ``**`` for any pieces; a pattern that begins with
    ``^`` is a regular expression for the whole name.

    Raises:
        ConfigError: not a regular expression.
    """
    if not pattern.startswith("^"):
        parts = re.split(r"(\*\*|\*)", pattern)
        stars = {"**": ".*", "*": r"[^.]*"}
        pattern = "".join(stars.get(part, re.escape(part)) for part in parts)
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ConfigError(f"{pattern!r} is not a regular expression ({error})") from error


def numbered_blocks(model: Any, pattern: str | None = None) -> dict[int, nn.Module]:
    """The blocks of a model by their numbers from 1: found, or all that a pattern names.

    Raises:
        ConfigError: as `find_blocks`; or the pattern names no module.
    """
    if pattern is None:
        return dict(enumerate(find_blocks(model).modules, start=1))
    found = [module for name, module in model.named_modules() if matches(pattern, name)]
    if not found:
        some = ", ".join(name for name, _ in list(model.named_modules())[1:8])
        raise ConfigError(
            f"blocks = {pattern!r} names no module of {type(model).__name__}; its modules are "
            f"{some}, .."
        )
    return dict(enumerate(found, start=1))


def _part(block: nn.Module, points: str, number: int) -> Iterator[nn.Module]:
    """The one part of a block that is meant, if it has it."""
    if points == BLOCK:
        yield block
        return
    if points in _PARTS:
        parts = [(n, child) for n, child in block.named_children() if _kind(n, child) == points]
    else:
        parts = [(n, child) for n, child in block.named_modules() if n and matches(points, n)]
    if len(parts) > 1:
        names = ", ".join(name for name, _ in parts)
        raise ConfigError(f"points = {points!r} names {names} in block {number}; name one of them")
    yield from (child for _, child in parts)


def _kind(name: str, child: nn.Module) -> str | None:
    """Attention or MLP, by a child's class, which says it in most families, else by its name."""
    kind = type(child).__name__
    if _NOT_PARTS.search(name) or _NOT_PARTS.search(kind):
        return None
    for text in (kind, name):
        for part, pattern in _PARTS.items():  # attention first: of a Qwen3MoeAttention
            if pattern.search(text):
                return part
    return None


def _nothing(model: Any, block: nn.Module, points: str) -> str:
    name = type(model).__name__
    if points in (ENGRAM_IN, ENGRAM_OUT):
        return (
            f"points = {points!r}: {name} has no Engram module that is known; describe its memory "
            'modules, as engram = { module = "model.layers.*.memory" }'
        )
    parts = ", ".join(inside for inside, _ in block.named_modules() if inside)
    return f"points = {points!r} names nothing in a block of {name}; allowed: {parts}"
