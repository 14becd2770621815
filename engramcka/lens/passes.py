"""What a model gives at every token of a text: gates, shares of the n-gram orders, next-token
losses, and how many n-grams share a row of the tables.

Letters: B sequences, T tokens, L modules, M streams, O n-gram orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from engramcka.errors import ConfigError
from engramcka.lens.logit_lens import Head
from engramcka.models import find_blocks
from engramcka.models.engram.analysis import engram_modules
from engramcka.models.engram.hashing import NgramHash
from engramcka.models.engram.module import Engram
from engramcka.models.hooks import PassHooks

_ROWS, _PIECE = 1024, 4096  # tokens and vocabulary entries whose logits stand in memory at once


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

    def read(key: tuple[str, int], passing: Tensor) -> Tensor:
        part, layer = key
        return passing if part == "gate" else _order_shares(modules[layer], passing, n_orders)

    points = {("gate", layer): cast(nn.Module, module.gate) for layer, module in modules.items()}
    points |= {("memory", layer): module.memory for layer, module in modules.items()}
    with PassHooks(points, read, end=True) as hooks:
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    real = mask.bool()
    alpha, shares = (
        torch.stack([hooks.found[part, layer] for layer in modules], dim=2)[real]
        for part in ("gate", "memory")
    )
    return alpha.float(), shares


def _order_shares(module: Engram, memory: Tensor, n_orders: int) -> Tensor:
    """<v_n, v> of each n-gram order, (B, T, O) float64, from the memory, (B, T, d_mem)."""
    parts = memory.unflatten(-1, (n_orders, -1)).to(torch.float32)
    weight = module.value.weight.float().unflatten(-1, (n_orders, -1))
    values = torch.einsum("btoe,doe->btod", parts, weight)
    return torch.einsum("btod,btd->bto", values, values.sum(2)).double()


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


Ints = npt.NDArray[np.int64]


@torch.no_grad()
def collision_shares(hashing: NgramHash, passages: Sequence[Ints]) -> npt.NDArray[np.float64]:
    """Share of the distinct n-grams that are not alone in their row, (modules, orders).

    An n-gram is what a row is looked up by: canonical ids, the pad id before a passage's start. Two
    different ones with the same row number share what is stored there (Engram paper, section 2.2).
    Counted in each head's table by itself; the mean over the heads.

    Args:
        hashing: the model's.
        passages: token ids of each, (tokens,).
    """
    windows, rows = [], []
    for ids in passages:
        tokens = torch.from_numpy(ids)[None].to(hashing.token_map.device)
        canonical = hashing.canonical(tokens, None, None)
        windows.append(canonical.unfold(1, hashing.window, 1)[0].cpu().numpy())
        rows.append(hashing(canonical)[:, 0].cpu().numpy())
    window, row = np.concatenate(windows), np.concatenate(rows, axis=1)
    found = np.empty((len(row), len(hashing.orders)))
    for place, order in enumerate(hashing.orders):
        distinct = np.unique(window[:, hashing.window - order :], axis=0, return_index=True)[1]
        heads = slice(place * hashing.heads, (place + 1) * hashing.heads)
        for module, table in enumerate(row):
            found[module, place] = np.mean([_shared(one) for one in table[distinct, heads].T])
    return found


def _shared(rows: Ints) -> float:
    """Share of the entries that are equal to another entry."""
    _, counts = np.unique(rows, return_counts=True)
    return float(counts[counts > 1].sum() / len(rows))
