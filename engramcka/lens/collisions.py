"""How many n-grams of a text share a table row with another one. Knows nothing of weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from engramcka.models.engram.hashing import NgramHash

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
    """Share of entries that are equal to another one."""
    _, counts = np.unique(rows, return_counts=True)
    return float(counts[counts > 1].sum() / len(rows))
