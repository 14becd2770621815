"""Whether the blocks that were found carry the residual stream, and how several streams lie in it.

Both are seen in one pass over a few tokens and not taken from names: what leaves a block must be
what enters the next. Models with several parallel streams keep them in a dimension of their own,
behind the tokens or before the batch, or side by side in the last dimension (flattened). Streams
begin as copies of the embedding, so those that are flattened are seen in what enters the first
block. A few old models have the tokens before the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError, DataError
from engramcka.models.blocks import NAME_THEM, find_blocks
from engramcka.models.hooks import STREAMS_FIRST, TOKENS_FIRST, CapturePoint, PassHooks
from engramcka.plain_text import first_line
from engramcka.ram import out_of_memory

_PROBE_TOKENS = 7  # unlike the number of streams of any model
_PADDING = 9
_APART = {2: 0.03, 4: 1e-4, 8: 1e-8}  # share that a state may differ by, by its dtype's bytes


@torch.no_grad()
def require_stream(
    model: Any,
    points: Mapping[int, CapturePoint],
    tokens: npt.NDArray[np.int64],
    is_chain: bool,
    pad_id: int = 0,
) -> dict[int, CapturePoint]:
    """The points with the layout of what passes them; refuses what is not the residual stream.

    What leaves a block must be what enters the next, whole, and of exactly the tokens that went in;
    else what is compared would not be the residual stream, and nobody would see it.

    Args:
        model: in eval mode.
        points: layer number -> point; those of parts of blocks are not looked at.
        tokens: (tokens,) at least one; the first of them are run.
        is_chain: whether the points are all blocks in the order they run, so that each must take
            what the one before gives; else they are somebody's own choice.
        pad_id: token id that passages are padded with (it is masked).

    Returns:
        The same points, each with the layout that was seen.

    Raises:
        ConfigError: says what differs and what to write instead.
        DataError: so few tokens do not fit the device's memory.
    """
    _require_padding(model, points, tokens, pad_id)
    tapped = {number: point for number, point in points.items() if point.taps_stream}
    if not tapped:
        return dict(points)
    sides = {(0, "first"): CapturePoint(_first_block(model, tapped), "input")}
    for number, point in tapped.items():
        if point.side == "output":
            sides[number, "in"] = CapturePoint(point.module, "input")
        sides[number, point.side] = point
    ids = _probe(model, tokens)
    seen: dict[tuple[int, str], int] = {}

    def keep(side: tuple[int, str], passing: Any) -> Any:
        seen[side] = seen.get(side, 0) + 1
        return passing

    name = _name(model)
    hooks = PassHooks(sides, keep, first=True)
    run_probe(model, hooks, ids, torch.ones_like(ids))
    first = hooks.found.get((0, "first"))
    settled = dict(points)
    for number, point in tapped.items():
        where = f"{name}: {'block' if number else 'layer'} {number}"
        runs = seen.get((number, point.side), 0)
        if runs != 1:
            raise ConfigError(f"{where} runs {runs} times in a pass; {NAME_THEM}")
        passing = hooks.found[number, point.side]
        settled[number] = _with_layout(model, point, passing, first, tuple(ids.shape), where)
        following = hooks.found.get((number + 1, "in"))
        if is_chain and number and number + 1 in tapped and not same(passing, following):
            raise ConfigError(
                f"{name}: what leaves block {number} is not what enters block {number + 1}; "
                f"{NAME_THEM}"
            )
    return settled


def _require_padding(
    model: Any, points: Mapping[int, CapturePoint], tokens: npt.NDArray[np.int64], pad_id: int
) -> None:
    """Refuse a model whose tokens' states depend on the padding behind them, which is masked.

    Seen at the first point that is passed, and at the last tokens of two passages, so that rounding
    and a token that changes its expert are no reason.
    """
    ids = _probe(model, tokens)
    last = ids.shape[1] - 1
    sides = {number: point for number, point in points.items() if point.side != "input"}
    found = []
    for behind in (0, _PADDING):
        hooks: PassHooks[int, Any] = PassHooks(sides, lambda _, passing: passing)
        mask = F.pad(torch.ones_like(ids), (0, behind))
        run_probe(model, hooks, F.pad(ids, (0, behind), value=pad_id), mask)
        found.append(next(iter(hooks.found.items()), (0, None)))
    (number, alone), (_, beside) = found
    if not isinstance(alone, Tensor) or not isinstance(beside, Tensor) or alone.is_meta:
        return
    if alone.shape[:2] != ids.shape or beside.shape[:1] != ids.shape[:1]:
        return
    ours, theirs = (state[:, last].flatten(1).double() for state in (alone, beside))
    apart = ((ours - theirs).norm(dim=1) / ours.norm(dim=1)).min()
    if apart > _APART.get(alone.dtype.itemsize, 0.03):
        raise ConfigError(
            f"{_name(model)}: hidden states of block {number} depend on the padding behind a "
            f"passage (by {float(apart):.1%}), so they would differ from batch to batch; such a "
            "model cannot be used; one of your own has to heed attention_mask"
        )


def _probe(model: Any, tokens: npt.NDArray[np.int64]) -> Tensor:
    """A batch of two passages of a few tokens, on the model's device."""
    some = np.resize(tokens[:_PROBE_TOKENS], _PROBE_TOKENS)
    ids = torch.from_numpy(np.stack([some, some[::-1]]))
    return ids.to(next(model.parameters()).device)


def _name(model: Any) -> str:
    return type(getattr(model, "inner", model)).__name__


def run_probe(
    model: Any,
    hooks: AbstractContextManager[Any],
    ids: Tensor,
    mask: Tensor | None,
    **given: Any,
) -> None:
    """One pass over a few tokens with hooks on it; what fails in it is one line.

    Args:
        model: in eval mode.
        hooks: entered for the pass.
        ids: (batch, tokens) int64.
        mask: (batch, tokens), 1 on real tokens; None to give none.
        **given: what else the model is called with.

    Raises:
        ConfigError: the model cannot be run on token ids.
        DataError: so few tokens do not fit the device's memory.
    """
    try:
        with hooks:
            model(input_ids=ids, attention_mask=mask, use_cache=False, **given)
    except Exception as error:  # of whatever somebody's model does
        if out_of_memory(error):
            raise DataError(
                f"{_name(model)}: out of memory in a pass over {ids.numel()} tokens; use a "
                "smaller dtype, or a larger device"
            ) from error
        raise ConfigError(
            f"{_name(model)}: a forward pass over token ids fails ({first_line(error)})"
        ) from error


def _first_block(model: Any, points: Mapping[int, CapturePoint]) -> nn.Module:
    """The block that the embedding enters, as far as it is found; else the first of the points."""
    inner = getattr(model, "inner", model)
    if isinstance(inner, PreTrainedModel):
        with suppress(ConfigError):
            return find_blocks(inner).modules[0]
    return points[min(points)].module


def _with_layout(
    model: Any, point: CapturePoint, passing: Any, first: Any, ids: tuple[int, ...], where: str
) -> CapturePoint:
    """A point with how the streams lie in what passes it.

    Args:
        model: for the width of one stream.
        point: the point.
        passing: what passed there.
        first: what enters the first of the blocks.
        ids: (batch, tokens) that went in.
        where: names the point in an error.
    """
    shape = tuple(passing.shape) if isinstance(passing, Tensor) else ()
    if len(shape) == 4 and shape[:2] != ids and shape[1:3] == ids:
        return replace(point, layout=STREAMS_FIRST)
    if len(shape) == 3 and shape[:2] == ids[::-1]:
        return replace(point, layout=TOKENS_FIRST)
    if len(shape) not in (3, 4) or shape[:2] != ids:
        verb = "leaves" if point.side == "output" else "enters"
        name, _, what = where.partition(": ")
        raise ConfigError(
            f"{name}: what {verb} {what} is {shape or type(passing).__name__}, not "
            f"(batch, tokens, ..) = {ids}; {NAME_THEM}"
        )
    if len(shape) == 3:
        return replace(point, layout=_flattened(model, shape[2], first, where))
    return point


def _flattened(model: Any, width: int, first: Any, where: str) -> int:
    """How many streams stand side by side in the last dimension; 1 if it is one stream.

    Args:
        model: for the width of one stream.
        width: of what passes.
        first: what enters the first block, where streams are copies of the embedding.
        where: names the point in an error.
    """
    copies = _copies(first) if isinstance(first, Tensor) else 1
    if copies > 1 and width == first.shape[-1]:
        return copies
    one, is_said = _stream_width(model)
    if one is None or width <= one or width % one or (not is_said and _projects(model, one, width)):
        return 1
    raise ConfigError(
        f"{where}: what passes there is {width} wide, {width // one} times its hidden size, and "
        "these are not copies where they enter; whether they are residual streams cannot be seen; "
        'write source = "python" with a module that gives (batch, tokens, streams, width)'
    )


def _copies(entering: Tensor) -> int:
    """Of how many equal parts every token's vector consists, the most; 1 if of none.

    Args:
        entering: (batch, tokens, width), or of another shape that has no such parts.
    """
    if entering.is_meta or entering.dim() != 3:
        return 1
    width = entering.shape[-1]
    for number in range(width // 2, 1, -1):
        if width % number:
            continue
        parts = entering.unflatten(-1, (number, width // number))
        is_constant = bool((parts == parts[..., :1]).all())
        if not is_constant and bool((parts == parts[..., :1, :]).all()):
            return number
    return 1


def _stream_width(model: Any) -> tuple[int | None, bool]:
    """The width of one stream as far as it is known, and whether the config says it."""
    inner = getattr(model, "inner", model)
    config: Any = getattr(inner, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    said = getattr(text, "hidden_size", None)
    if isinstance(said, int):
        return said, True
    tables = (part for part in inner.modules() if isinstance(part, nn.Embedding))
    table = next(tables, None)
    return (None if table is None else table.embedding_dim), False


def _projects(model: Any, narrow: int, wide: int) -> bool:
    """Whether a model has a matrix that makes a wide stream of a narrow embedding."""
    shapes = {tuple(cast(Tensor, weight).shape) for weight in model.parameters()}
    return (narrow, wide) in shapes or (wide, narrow) in shapes


def same(one: Tensor, other: Any) -> bool:
    """Whether two things that passed a model are the same tensor, or equal; NaN equals NaN."""
    if one is other:
        return True
    if not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    if one.is_meta:
        return True
    there = other.to(one.device)
    return bool(((one == there) | (one.isnan() & there.isnan())).all())
