"""The parts of a decoder, and the points in it where hidden states are captured.

Blocks, final norm and LM head are found by what they are, not by what a model family calls them:
the blocks are the one list of modules that is as long as the config says the model is deep, and the
final norm is the last norm beside them. That what leaves one block enters the next is then seen in
a pass (`require_stream`). Attention and MLP inside a block are
recognised by the names of their classes; any other module is named by a pattern.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.ram import out_of_memory

BLOCK, ATTENTION, MLP = "block", "attention", "mlp"
ENGRAM_IN, ENGRAM_OUT = "engram-in", "engram-out"

_PARTS = {
    ATTENTION: re.compile(r"attn|attention|mixer", re.IGNORECASE),
    MLP: re.compile(r"mlp|moe|feed_?forward|ffn|experts", re.IGNORECASE),
}
_PROBE_TOKENS = 7  # unlike the number of streams of any model
_NOT_PARTS = re.compile(r"norm|_ln|ln_|hyper|_hc$|dropout", re.IGNORECASE)


class Memory(Protocol):
    """What a point of the stream around a memory module is taken from."""

    @property
    def module(self) -> nn.Module:
        """The module."""

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


@dataclass(frozen=True)
class Unembedding:
    """What makes logits of the last block's output.

    Attributes:
        final_norm: applied to the last block's output before the unembedding.
        lm_head: unembedding, hidden size to vocabulary.
        collapse: with several residual streams, what makes them one before ``final_norm``;
            None in an ordinary decoder.
        logit_scale: what the model multiplies its logits by.
        logit_cap: size the model softly caps its logits at; None if it does not.
    """

    final_norm: nn.Module
    lm_head: nn.Module
    collapse: nn.Module | None = None
    logit_scale: float = 1.0
    logit_cap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) of a residual stream after any block, as LogitLens reads it."""
        if self.collapse is not None:
            hidden = self.collapse(hidden)
        logits: Tensor = self.lm_head(self.final_norm(hidden)) * self.logit_scale
        if self.logit_cap is None:
            return logits
        return torch.tanh(logits / self.logit_cap) * self.logit_cap


def find_blocks(model: PreTrainedModel) -> Blocks:
    """The blocks of a causal LM or an encoder.

    Raises:
        ConfigError: the model is an encoder-decoder, or its blocks cannot be told apart.
    """
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise ConfigError(f"{name} is an encoder-decoder; only decoders and encoders will do")
    path, blocks = _block_list(model)
    return Blocks(path, tuple(blocks))


def find_unembedding(model: PreTrainedModel) -> Unembedding:
    """The final norm and unembedding of a causal LM.

    Raises:
        ConfigError: as `find_blocks`; there is no unembedding, or no final norm.
    """
    name = type(model).__name__
    blocks = find_blocks(model)
    lm_head = model.get_output_embeddings()
    if lm_head is None:
        raise ConfigError(f"{name} has no unembedding (LM head); load it as a causal LM")
    embedding = model.get_input_embeddings()
    parent = model.get_submodule(blocks.path.rpartition(".")[0])
    width = int(cast(Tensor, embedding.weight).shape[-1])
    own = model.get_submodule(blocks.path)
    beside = [child for child in parent.children() if child is not own]
    norms = [child for child in beside if _is_norm(child)]
    if not norms:
        raise ConfigError(f"{name} has no norm beside {blocks.path}; its final norm is not found")
    heads = [c for c in beside if c is not embedding and not _is_norm(c) and _is_collapse(c, width)]
    return Unembedding(
        final_norm=norms[-1],
        lm_head=lm_head,
        collapse=heads[-1] if heads else None,
        **_logit_numbers(model),
    )


@torch.no_grad()
def require_stream(
    model: Any, points: Mapping[int, CapturePoint], tokens: npt.NDArray[np.int64], is_chain: bool
) -> None:
    """Refuse blocks whose outputs are not the stream that the next ones take.

    What leaves a block must be what enters the next, whole, and of exactly the tokens that went in;
    else what is compared would not be the residual stream, and nobody would see it.

    Args:
        model: in eval mode.
        points: block number -> what leaves it, in the order they run; the embedding's, 0, is not
            looked at.
        tokens: (tokens,) at least one; the first of them are run.
        is_chain: whether each block must take what the one before gives; else they are a user's own
            choice of modules.

    Raises:
        ConfigError: says what differs and what to write instead.
    """
    blocks = {number: point.module for number, point in points.items() if number}
    sides = {}
    for number, block in blocks.items():
        sides[number, "in"] = CapturePoint(block, "input")
        sides[number, "out"] = CapturePoint(block)
    some = torch.from_numpy(tokens[:_PROBE_TOKENS]).to(next(model.parameters()).device)
    ids = torch.stack([some, some.flip(0)])
    seen: dict[tuple[int, str], int] = {}

    def keep(side: tuple[int, str], passing: Any) -> Any:
        seen[side] = seen.get(side, 0) + 1
        return passing

    name = type(getattr(model, "inner", model)).__name__
    try:
        with PassHooks(sides, keep, first=True) as hooks:
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except Exception as error:  # of whatever somebody's model does
        if out_of_memory(error):
            raise
        line = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ConfigError(f"{name}: a forward pass over token ids fails ({line})") from error
    advice = (
        'its residual stream cannot be found by itself; name its blocks (blocks = ".."), another '
        'point (points), or write source = "python"'
    )
    for number in blocks:
        runs = seen.get((number, "out"), 0)
        if runs != 1:
            raise ConfigError(f"{name}: block {number} runs {runs} times in a pass; {advice}")
        out = hooks.found[number, "out"]
        if not isinstance(out, Tensor) or tuple(out.shape[:2]) != tuple(ids.shape):
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ConfigError(
                f"{name}: what leaves block {number} is {found}, not (batch, tokens, ..) = "
                f"{tuple(ids.shape)}; {advice}"
            )
        following = hooks.found.get((number + 1, "in"))
        if is_chain and number + 1 in blocks and not _same(out, following):
            raise ConfigError(
                f"{name}: what leaves block {number} is not what enters block {number + 1}; "
                f"{advice}"
            )


def _same(one: Tensor, other: Any) -> bool:
    if one is other:
        return True
    if not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return one.is_meta or bool(torch.equal(one, other.to(one.device)))


def _logit_numbers(model: PreTrainedModel) -> dict[str, Any]:
    """What a model does to its logits, by the names that configs use for it."""
    config = model.config.get_text_config(decoder=True)
    scale = getattr(config, "logit_scale", None) or 1.0
    divisor = getattr(config, "logits_scaling", None) or 1.0
    return {
        "logit_scale": scale / divisor,
        "logit_cap": getattr(config, "final_logit_softcapping", None),
    }


def _block_list(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    depth = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    outer = [
        (path, module)
        for path, module in lists
        if not any(path.startswith(f"{other}.") for other, _ in lists)
    ]
    if not outer:
        raise ConfigError(
            f"{type(model).__name__} has no list of {depth} blocks, as its config says it should; "
            "only decoders that keep their blocks in one list can be used"
        )
    return max(outer, key=lambda found: sum(p.numel() for p in found[1].parameters()))


def _is_norm(module: nn.Module) -> bool:
    """A leaf with a 1-D weight, or a norm without weights."""
    if next(module.children(), None) is not None:
        return False
    weights = dict(module.named_parameters(recurse=False))
    if not weights:
        return "norm" in type(module).__name__.lower()
    return "weight" in weights and all(w.dim() == 1 for w in weights.values())


def _is_collapse(module: nn.Module, width: int) -> bool:
    """Whether it reads several streams at once: a matrix (streams, streams x width)."""
    return any(
        weight.dim() == 2 and weight.shape[1] == weight.shape[0] * width and weight.shape[0] > 1
        for weight in module.parameters(recurse=False)
    )


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
        outside = 1 in memories and memories[1].module not in set(found[1].modules())
        chosen[0] = memories[1].before if outside else CapturePoint(found[1], "input")
    if points in (ENGRAM_IN, ENGRAM_OUT):
        for number, memory in memories.items():
            chosen[number] = memory.before if points == ENGRAM_IN else memory.after
    else:
        chosen |= {
            number: CapturePoint(part)
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
