"""From token ids to rows of the tables: tokenizer compression, multipliers, primes and the hash.

Tokenizer compression gives token ids that differ only in case, accents, Unicode form or white
space one canonical id, so that an n-gram's rows do not depend on those (paper, section 2.2). Row
numbers are a pure function of the token ids, so they are known before any layer has run.

Letters: B sequences, T tokens, L modules, N the longest order, P = orders x heads tables a module.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, normalizers
from torch import Tensor, nn

from engramcka.config.model_tables import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.allocation import primes_from

LAYER_STRIDE = 10007
"""What the seed grows by from one layer to the next (the authors' code)."""

_A_SPACE = "\ue000"  # private use: holds the place of a lone space while the ends are stripped
_NORMALIZER = normalizers.Sequence(
    [
        normalizers.NFKC(),
        normalizers.NFD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
        normalizers.Replace(Regex(r"^ $"), _A_SPACE),
        normalizers.Strip(),
        normalizers.Replace(_A_SPACE, " "),
    ]
)
_NOT_TEXT = "\ufffd"


def token_map(tokenizer: Any, vocab_size: int, compression: bool = True) -> tuple[Tensor, int]:
    """Canonical id of each token id, (vocab_size,) int64, and how many canonical ids there are.

    Canonical ids are numbered in the order in which they first appear. Ids past the tokenizer's
    own (embedding rows made round) keep ids of their own. ``compression=False`` gives the
    identity.

    Raises:
        ConfigError: the tokenizer is not a fast one, or it has more ids than the model.
    """
    if len(tokenizer) > vocab_size:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} ids but the model's vocabulary only {vocab_size}: "
            "they do not belong together; give the tokenizer that the model was trained with"
        )
    if not compression:
        return torch.arange(vocab_size), vocab_size
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ConfigError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so its compression table cannot "
            "be built; load the fast one or set compression = false"
        )
    known = _fold(backend.to_str(), len(tokenizer))
    n_known = max(known, default=-1) + 1
    unknown = range(n_known, n_known + vocab_size - len(tokenizer))
    return torch.tensor([*known, *unknown], dtype=torch.int64), n_known + len(unknown)


@lru_cache(maxsize=8)
def _fold(serialized: str, n_tokens: int) -> tuple[int, ...]:
    backend = Tokenizer.from_str(serialized)
    texts = backend.decode_batch([[i] for i in range(n_tokens)], skip_special_tokens=False)
    ids: dict[tuple[str, str | int], int] = {}
    return tuple(ids.setdefault(_key(i, text), len(ids)) for i, text in enumerate(texts))


def _key(token_id: int, text: str) -> tuple[str, str | int]:
    """What decides whether two tokens are one: their folded text, or the id where there is none."""
    if _NOT_TEXT in text or not text:
        return ("id", token_id)
    return ("text", _NORMALIZER.normalize_str(text) or text)


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
