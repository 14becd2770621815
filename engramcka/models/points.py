"""Where in a decoder hidden states are captured: after its blocks, or at other points by pattern.

Parts of a block are told apart by what they are called in their own code, attention or MLP, and
anything else by a pattern over module names. Knows nothing of what is captured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from torch import nn

from engramcka.errors import ConfigError
from engramcka.models.blocks import find_blocks
from engramcka.models.hooks import CapturePoint
from engramcka.models.own_code import OwnModel

BLOCK, ATTENTION, MLP = "block", "attention", "mlp"
ENGRAM_IN, ENGRAM_OUT = "engram-in", "engram-out"
NAMED_POINTS = (BLOCK, ATTENTION, MLP, ENGRAM_IN, ENGRAM_OUT)

_PARTS = {
    ATTENTION: re.compile(r"attn|attention|mixer", re.IGNORECASE),
    MLP: re.compile(r"mlp|moe|feed_?forward|ffn|experts", re.IGNORECASE),
}
_NOT_PARTS = re.compile(r"norm|_ln|ln_|hyper|_hc$|dropout", re.IGNORECASE)


def capture_points(
    model: Any, points: str = BLOCK, *, blocks: str | None = None, embedding: bool = False
) -> dict[int, CapturePoint]:
    """Layer number -> where its hidden state is.

    Args:
        model: a decoder.
        points: "block" (the residual stream after it), "attention" or "mlp" (what they give, before
            it is added to the stream), "engram-in" or "engram-out" (the stream before and after an
            Engram module), or a pattern over the names of modules within a block, as
            ``self_attn.o_proj``; see `matches`.
        blocks: a pattern over the names of the blocks; None to find them.
        embedding: take what enters the first block as layer 0.

    Raises:
        ConfigError: no such point, or more than one in a block.
    """
    model = model.inner if isinstance(model, OwnModel) else model
    found = _blocks(model, blocks)
    engrams = getattr(model, "engrams", {})
    chosen: dict[int, CapturePoint] = {}
    if embedding:
        first = engrams["1"] if "1" in engrams else found[1]
        chosen[0] = CapturePoint(first, "input")
    if points in (ENGRAM_IN, ENGRAM_OUT):
        for name in sorted(engrams, key=int):
            inside = points == ENGRAM_IN
            chosen[int(name)] = CapturePoint(engrams[name] if inside else found[int(name)], "input")
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


def _blocks(model: Any, pattern: str | None) -> dict[int, nn.Module]:
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
        return f"points = {points!r}: {name} has no Engram module"
    parts = ", ".join(inside for inside, _ in block.named_modules() if inside)
    return f"points = {points!r} names nothing in a block of {name}; allowed: {parts}"
