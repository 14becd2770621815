"""Where an n-gram's rows stand in the tables: multipliers, primes and the hash itself.

A pure function of token ids, so addresses are known before any layer has run. Knows nothing of
tables, gates or models.

Letters: B sequences, T tokens, L modules, N the longest order, P = orders x heads tables a module.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from engramcka.config.schema import EngramConfig
from engramcka.models.primes import primes_from

LAYER_STRIDE = 10007
"""What the seed grows by from one layer to the next (the authors' code)."""


def layer_multipliers(seed: int, layer: int, n_multipliers: int, n_ids: int) -> np.ndarray:
    """Odd int64 multipliers (n_multipliers,) of one layer, so small that id x multiplier fits.

    Drawn by NumPy's default_rng(seed + 10007 x layer) below half of int64max / n_ids, doubled
    plus one (the authors' code); ``layer`` counts from 1, ``n_ids`` is the number of canonical ids.
    """
    bound = max(1, np.iinfo(np.int64).max // n_ids // 2)
    generator = np.random.default_rng(seed + LAYER_STRIDE * layer)
    return generator.integers(0, bound, size=n_multipliers, dtype=np.int64) * 2 + 1


def table_primes(engram: EngramConfig) -> list[list[int]]:
    """Rows of each table, (L, P): the next primes from table_size, no two alike.

    Layers ascending, then orders ascending, then heads.
    """
    primes = primes_from(engram.table_size)
    n_tables = len(engram.orders) * engram.heads
    return [[next(primes) for _ in range(n_tables)] for _ in engram.layers]


class NgramHash(nn.Module):
    """Token ids to row numbers, for all modules at once and on the ids' own device.

    For order n the mix is XOR over i < n of (x'_{t-i} x m_i) in wrapping int64; head k takes it
    modulo its own prime (paper, section 2.3). All state is integer buffers, saved with the model:
    a checkpoint needs neither the tokenizer nor the same NumPy to find its rows again.

    Args:
        engram: orders, heads, table size, layers and seed.
        token_map: canonical id of each token id, (vocabulary,) int64.
        n_ids: number of canonical ids, one more than the largest.
        pad_id: canonical id that stands before the start and under masked positions.
    """

    token_map: Tensor
    multipliers: Tensor
    primes: Tensor
    offsets: Tensor

    def __init__(self, engram: EngramConfig, token_map: Tensor, n_ids: int, pad_id: int) -> None:
        super().__init__()
        self.orders = sorted(engram.orders)
        self.heads = engram.heads
        self.pad_id = pad_id
        self.window = self.orders[-1]
        layers = sorted(engram.layers)
        tables = table_primes(engram)
        self.rows_per_layer = {layer: sum(p) for layer, p in zip(layers, tables, strict=True)}
        primes = torch.tensor(tables, dtype=torch.int64)
        multipliers = [layer_multipliers(engram.seed, i, self.window, n_ids) for i in layers]
        self.register_buffer("token_map", token_map.to(torch.int64))
        self.register_buffer("multipliers", torch.tensor(np.stack(multipliers)))
        self.register_buffer("primes", primes)
        self.register_buffer("offsets", primes.cumsum(1) - primes)

    def canonical(self, input_ids: Tensor, keep: Tensor | None, tail: Tensor | None) -> Tensor:
        """Canonical ids with the N - 1 before them, (B, N - 1 + T) int64.

        Args:
            input_ids: token ids, (B, T).
            keep: False where a position is padding, (B, T); None if none is.
            tail: canonical ids of the N - 1 positions before, (B, N - 1); None at the start.
        """
        ids = self.token_map[input_ids]
        if keep is not None:
            ids = ids.masked_fill(~keep, self.pad_id)
        if tail is None:
            tail = ids.new_full((ids.shape[0], self.window - 1), self.pad_id)
        return torch.cat([tail, ids], dim=1)

    def forward(self, canonical: Tensor) -> Tensor:
        """Row numbers of every n-gram, (L, B, T, P) int64, each in its layer's joint table.

        Args:
            canonical: (B, N - 1 + T), as `canonical` gives it.
        """
        n_tokens = canonical.shape[1] - self.window + 1
        starts = range(self.window - 1, -1, -1)
        mix: Tensor | None = None
        mixes = []
        for lag, start in enumerate(starts):
            term = (
                canonical[None, :, start : start + n_tokens] * self.multipliers[:, lag, None, None]
            )
            mix = term if mix is None else mix ^ term
            if lag + 1 in self.orders:
                mixes.append(mix)
        per_table = torch.stack(mixes, dim=-1).repeat_interleave(self.heads, dim=-1)
        rows = torch.remainder(per_table, self.primes[:, None, None, :])
        return rows + self.offsets[:, None, None, :]
