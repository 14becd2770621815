"""What one forward pass gives at every token: gates, shares of the orders, next-token losses.

Knows nothing of text. Letters: B sequences, T tokens, L modules, M streams, O n-gram orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from engramcka.errors import ConfigError
from engramcka.lens.head import Head
from engramcka.models import find_blocks, read_gates
from engramcka.models.engram.analysis import engram_modules
from engramcka.models.engram.module import Engram

_ROWS, _PIECE = 1024, 4096  # tokens and vocabulary entries whose logits stand in memory at once


class _Done(Exception):
    """The last block has run; its LM head is not needed."""


def require_engram(model: nn.Module, name: str) -> dict[int, Engram]:
    """The Engram modules of a model by block, from 1.

    Raises:
        ConfigError: there are none.
    """
    modules = engram_modules(model)
    if not modules:
        raise ConfigError(f"{name} has no Engram modules, so it has no gates and no memory")
    return modules


def require_gates(model: nn.Module, name: str) -> dict[int, Engram]:
    """The Engram modules of a model by block, all of which have gates.

    Raises:
        ConfigError: there are none, or one has no gate.
    """
    modules = require_engram(model, name)
    if any(module.gate is None for module in modules.values()):
        raise ConfigError(f"{name}: its Engram modules have gating 'none', so there is no alpha")
    return modules


@torch.no_grad()
def token_gates(model: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Gates and the orders' shares at every token that is no padding.

    An order's part of a value is v_n = W_V e_n, with e_n the rows that its heads found and zero
    elsewhere, so that the parts sum to v = W_V e (Engram paper, equations 2 and 3). <v_n, v> is
    what the part adds to |v|^2, half of each cross term included; the orders' sum is |v|^2.

    Args:
        model: a model with gated Engram modules, in eval mode.
        ids: (B, T) int64.
        mask: (B, T), 1 on real tokens.

    Returns:
        alpha, (n, L, M) float32 in [0, 1], and <v_n, v>, (n, L, O) float64, for the n real tokens,
        sequence by sequence; modules and orders ascending.
    """
    modules = dict(sorted(engram_modules(model).items()))
    n_orders = len(model.hashing.orders)
    shares: dict[int, Tensor] = {}

    def measure(layer: int, module: Engram) -> Any:
        def hook(_memory: nn.Module, _args: Any, found: Tensor) -> None:
            parts = found.unflatten(-1, (n_orders, -1)).to(torch.float32)
            weight = module.value.weight.float().unflatten(-1, (n_orders, -1))
            values = torch.einsum("btoe,doe->btod", parts, weight)
            shares[layer] = torch.einsum("btod,btd->bto", values, values.sum(2)).double()

        return module.memory.register_forward_hook(hook)

    handles = [measure(layer, module) for layer, module in modules.items()]
    try:
        with read_gates(model) as gates, _ending_at(find_blocks(model).modules[max(modules) - 1]):
            model(input_ids=ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    real = mask.bool()
    alpha = torch.stack([gates[layer][0] for layer in modules], dim=2)[real]
    return alpha.float(), torch.stack([shares[layer] for layer in modules], dim=2)[real]


@torch.no_grad()
def token_losses(model: Any, head: Head, ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of every real token given those before it, nats; NaN for a sequence's first.

    Args:
        model: a causal LM in eval mode.
        head: its read-out.
        ids: (B, T) int64, padded on the right.
        mask: (B, T), 1 on real tokens.

    Returns:
        (n,) float64 for the n real tokens, sequence by sequence.
    """
    with _ending_at(find_blocks(model).modules[-1]) as seen:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    real = mask.bool()
    losses = torch.full(ids.shape, torch.nan, dtype=torch.float64, device=ids.device)
    hidden, targets = seen[0][:, :-1][real[:, 1:]], ids[:, 1:][real[:, 1:]]
    parts = [
        _losses(head, hidden[start : start + _ROWS], targets[start : start + _ROWS])
        for start in range(0, len(targets), _ROWS)
    ]
    if parts:
        losses[:, 1:][real[:, 1:]] = torch.cat(parts)
    return losses[real]


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


@contextmanager
def _ending_at(block: nn.Module) -> Iterator[list[Tensor]]:
    """End a forward pass after a block, whose output is kept."""
    seen: list[Tensor] = []

    def keep(_block: nn.Module, _inputs: Any, output: Any) -> None:
        seen.append(cast(Tensor, output[0] if isinstance(output, tuple) else output))
        raise _Done

    handle = block.register_forward_hook(keep)
    try:
        with suppress(_Done):
            yield seen
    finally:
        handle.remove()
