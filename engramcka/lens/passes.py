"""What a model gives at every token of a text: gates, shares of the n-gram orders, next-token
losses, and how many n-grams share a row of the tables.

Letters: B sequences, T tokens, L modules, M streams, O n-gram orders, P rows a token looks up, E
numbers in them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from engramcka.errors import ConfigError
from engramcka.lens.logit_lens import Head
from engramcka.models import find_blocks
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.models.memory_modules import MemoryModule
from engramcka.plain_text import first_line

_ROWS, _PIECE = 1024, 4096  # tokens and vocabulary entries whose logits stand in memory at once
_LOGITS = 1 << 28  # that a model without a head to be read gives at once


def require_memory(memories: Mapping[int, MemoryModule], name: str) -> None:
    """Refuse a model without memory modules.

    Raises:
        ConfigError: there are none.
    """
    if not memories:
        raise ConfigError(
            f"{name} has no Engram modules that are known, so it has no gates and no memory; "
            'describe its own, as engram = { module = "model.layers.*.memory" }'
        )


def require_gates(memories: Mapping[int, MemoryModule], name: str) -> None:
    """Refuse a model whose memory modules have not all a gate that can be read.

    Raises:
        ConfigError: there are none, or one has no gate.
    """
    require_memory(memories, name)
    for memory in memories.values():
        if not memory.gate_points:
            raise ConfigError(
                f"{name}: {memory.name} has no gate, so there is no alpha (gating = 'none', or "
                "engram describes none)"
            )


@torch.no_grad()
def token_gates(
    model: Any, memories: Mapping[int, MemoryModule], ids: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gates, the orders' shares and the rows looked up at every token that is no padding.

    An order's part of a value is v_n = W_V e_n, with e_n the rows that its heads found and zero
    elsewhere, so that the parts sum to v = W_V e (Engram paper, equations 2 and 3). <v_n, v> is
    what the part adds to |v|^2, half of each cross term included; the orders' sum is |v|^2.

    Args:
        model: a model in eval mode.
        memories: its memory modules, all with gates.
        ids: (B, T) int64.
        mask: (B, T), 1 on real tokens.

    Returns:
        alpha, (n, L, M) float32 in [0, 1]; <v_n, v>, (n, L, O) float64; and row numbers, (n, L, P)
        int64, for the n real tokens, sequence by sequence; modules and orders ascending. O and P
        are 0 where a module's table or orders are not known.

    Raises:
        ConfigError: modules with unlike numbers of streams, orders or rows, or values that are no
            gates.
    """
    points: dict[tuple[int, str], CapturePoint] = {}
    for layer, memory in memories.items():
        points |= {(layer, part): point for part, point in memory.gate_points.items()}
        if memory.table is not None and memory.orders:
            points[layer, "rows"] = CapturePoint(memory.table, "input")
            points[layer, "looked up"] = CapturePoint(memory.table)
    with PassHooks(points, lambda _, passing: cast(Tensor, passing), end=True) as hooks:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    for layer, part in points:
        if (layer, part) not in hooks.found:
            raise ConfigError(
                f"{memories[layer].name}: what gives its {part} does not run in a pass; name the "
                "part that does (engram)"
            )
    _require_shapes(hooks.found, memories, ids)
    real = mask.bool()
    found: tuple[list[Tensor], ...] = ([], [], [])
    for layer, memory in memories.items():
        mine = {part: seen for (where, part), seen in hooks.found.items() if where == layer}
        none = ids.new_zeros(*ids.shape, 0)
        rows, looked_up = mine.get("rows", none), mine.get("looked up")
        rows = rows.unsqueeze(-1) if rows.dim() == 2 else rows  # one a token
        shares = none.double() if looked_up is None else _order_shares(memory, looked_up)
        for values, kept in zip((memory.alpha(mine).float(), shares, rows), found, strict=True):
            kept.append(values.to(ids.device)[real])
    for what, kept in zip(("streams", "orders", "rows"), found, strict=True):
        if len({values.shape[-1] for values in kept}) > 1:
            numbers = ", ".join(str(values.shape[-1]) for values in kept)
            raise ConfigError(
                f"the memory modules have unlike numbers of {what} ({numbers}), so there is no one "
                "map of gates; name modules that are alike (engram.module)"
            )
    alpha, shares, rows = (torch.stack(kept, dim=1) for kept in found)
    return alpha, shares, rows


def _require_shapes(
    found: Mapping[tuple[int, str], Tensor], memories: Mapping[int, MemoryModule], ids: Tensor
) -> None:
    """Everything seen must be of exactly the tokens that went in."""
    for (layer, part), seen in found.items():
        if not isinstance(seen, Tensor) or tuple(seen.shape[:2]) != tuple(ids.shape):
            shape = tuple(seen.shape) if isinstance(seen, Tensor) else type(seen).__name__
            raise ConfigError(
                f"{memories[layer].name}: its {part} is {shape}, not (batch, tokens, ..) = "
                f"{tuple(ids.shape)}"
            )


def _order_shares(memory: MemoryModule, looked_up: Tensor) -> Tensor:
    """<v_n, v> of each n-gram order, (B, T, O) float64, from the rows, (B, T, P, E / P)."""
    whole = looked_up.flatten(2)
    n_orders = len(memory.orders)
    if whole.shape[-1] % n_orders:
        raise ConfigError(
            f"{memory.name}: the rows of a token are {whole.shape[-1]} numbers, which do not split "
            f"over {n_orders} orders"
        )
    parts = []
    for order in range(n_orders):
        alone = torch.zeros_like(whole).unflatten(-1, (n_orders, -1))
        alone[..., order, :] = whole.unflatten(-1, (n_orders, -1))[..., order, :]
        try:
            parts.append(memory.value(alone.flatten(-2)))
        except (RuntimeError, TypeError, IndexError) as error:  # of whatever layer was named
            raise ConfigError(
                f"{memory.name}: engram.value does not take the rows of a token, "
                f"{whole.shape[-1]} numbers ({first_line(error)})"
            ) from error
    value = torch.stack(parts).sum(0)
    return torch.stack([(part * value).sum(-1) for part in parts], dim=-1).double()


@torch.no_grad()
def token_losses(model: Any, head: Head | None, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of every real token given those before it, nats; NaN for a sequence's first.

    Args:
        model: a causal LM in eval mode.
        head: its read-out, which saves the memory of the logits; None to take the model's own.
        ids: (B, T) int64, padded on the right.
        mask: (B, T), 1 on real tokens.

    Returns:
        (n,) float64 for the n real tokens, sequence by sequence.
    """
    if head is None:
        return _losses_of_logits(model, ids, mask)
    last = {"last": find_blocks(model).modules[-1]}
    with PassHooks(last, lambda _, hidden: cast(Tensor, hidden), end=True) as hooks:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    real = mask.bool()
    losses = torch.full(ids.shape, torch.nan, dtype=torch.float64, device=ids.device)
    hidden, targets = hooks.found["last"][:, :-1][real[:, 1:]], ids[:, 1:][real[:, 1:]]
    parts = [
        _losses(head, hidden[start : start + _ROWS], targets[start : start + _ROWS])
        for start in range(0, len(targets), _ROWS)
    ]
    if parts:
        losses[:, 1:][real[:, 1:]] = torch.cat(parts)
    return losses[real]


def require_logits(model: Any, ids: Tensor, name: str) -> None:
    """Refuse a model that gives no logits; one of somebody's own may.

    Args:
        model: any model in eval mode.
        ids: (tokens,) int64 on the model's device, at least one.
        name: of the model in the config.

    Raises:
        ConfigError: its output has no ``logits`` (batch, tokens, vocabulary).
    """
    with torch.no_grad():
        logits = getattr(model(input_ids=ids[None, :1], use_cache=False), "logits", None)
    if not isinstance(logits, Tensor) or tuple(logits.shape[:2]) != (1, 1) or logits.dim() != 3:
        raise ConfigError(
            f"{name} gives no logits (batch, tokens, vocabulary), so its loss without memory "
            "cannot be had; set memory_off = false in [[gates]], or give a causal LM"
        )


def _losses_of_logits(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """As `token_losses`, from the logits of a few sequences at a time; the first tells how many."""
    losses = torch.full(ids.shape, torch.nan, dtype=torch.float64, device=ids.device)
    first, count = 0, 1
    while first < len(ids):
        some = slice(first, first + count)
        logits = model(input_ids=ids[some], attention_mask=mask[some], use_cache=False).logits
        for row, given in enumerate(logits.to(ids.device), start=first):
            for start in range(0, ids.shape[1] - 1, _ROWS):
                part = given[start : start + _ROWS][: ids.shape[1] - 1 - start].float()
                targets = ids[row, start + 1 : start + 1 + len(part)]
                found = F.cross_entropy(part, targets, reduction="none")
                losses[row, start + 1 : start + 1 + len(part)] = found.double()
        first, count = first + count, max(1, _LOGITS // logits[0].numel())
    return losses[mask.bool()]


def _losses(head: Head, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-sum-exp less the target's logit, in pieces over the vocabulary: (rows,) float64."""
    normed = head.project(hidden)
    sums, at_target = [], torch.zeros(len(targets), dtype=torch.float64, device=targets.device)
    for start in range(0, head.vocabulary, _PIECE):
        stop = min(start + _PIECE, head.vocabulary)
        logits = head.logits(normed, start, stop)
        inside = (start <= targets) & (targets < stop)
        at_target[inside] = logits[inside].gather(1, targets[inside, None] - start)[:, 0].double()
        sums.append(logits.logsumexp(-1).double())
    return torch.stack(sums).logsumexp(0) - at_target
