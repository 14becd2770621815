"""From token ids to rows of the tables: tokenizer compression, multipliers, primes and the hash.

Tokenizer compression gives token ids that differ only in case, accents, Unicode form or white
space one canonical id, so that an n-gram's rows do not depend on those (paper, section 2.2). Row
numbers are a pure function of the token ids, so they are known before any layer has run.

There are two ways to canonical ids and multipliers, ``hashing`` of `EngramConfig`: our own, and
that of the authors' code (engram_demo_v1.py), row for row. docs/engram.md has the differences.

Letters: B sequences, T tokens, L modules, N the longest order, P = orders x heads tables a module.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, normalizers
from torch import Tensor, nn

from engramcka.config.memory_tables import EngramConfig
from engramcka.errors import ConfigError
from engramcka.models.allocation import table_primes
from engramcka.models.engram.documents import FAR, since_start

UNKEYED = 12
"""Tokens that decide a row where rows are to have no key: they hardly ever come back."""

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


def require_fitting(tokenizer: Any, vocab_size: int) -> None:
    """Refuse a tokenizer with more ids than the model.

    Raises:
        ConfigError: names both numbers.
    """
    if len(tokenizer) > vocab_size:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} ids but the model's vocabulary only {vocab_size}: "
            "they do not belong together; give the tokenizer that the model was trained with"
        )


def token_map(
    tokenizer: Any, vocab_size: int, compression: bool = True, hashing: str = "own"
) -> tuple[Tensor, int]:
    """Canonical id of each token id, (vocab_size,) int64, and how many canonical ids there are.

    Canonical ids are numbered in the order in which they first appear. Ids past the tokenizer's
    own (embedding rows made round) keep ids of their own; the authors' code does not know them, so
    for ``hashing`` "authors" they are not counted. ``compression=False`` gives the identity.

    Raises:
        ConfigError: the tokenizer is not a fast one, or it has more ids than the model.
    """
    require_fitting(tokenizer, vocab_size)
    if not compression:
        return torch.arange(vocab_size), vocab_size
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ConfigError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so its compression table cannot "
            "be built; load the fast one or set compression = false"
        )
    is_theirs = hashing == "authors"
    known = (
        _fold_as_the_authors(tokenizer) if is_theirs else _fold(backend.to_str(), len(tokenizer))
    )
    n_known = max(known, default=-1) + 1
    unknown = range(n_known, n_known + vocab_size - len(tokenizer))
    n_ids = n_known if is_theirs else n_known + len(unknown)
    return torch.tensor([*known, *unknown], dtype=torch.int64), n_ids


def start_id(tokenizer: Any, token_ids: Tensor, n_ids: int, hashing: str) -> tuple[int, int]:
    """Canonical id that stands before the start, and how many there are with it.

    It is the pad token's. Without a pad token it is one more, of its own; with ``hashing``
    "authors", whose code has none such, that of the end-of-text token.

    Args:
        tokenizer: the model's.
        token_ids: canonical id of each token id, as `token_map` gives it.
        n_ids: how many there are.
        hashing: of `EngramConfig`.

    Raises:
        ConfigError: "authors", and the tokenizer has neither token.
    """
    pad = tokenizer.pad_token_id
    if pad is None and hashing == "authors":
        pad = tokenizer.eos_token_id
        if pad is None:
            raise ConfigError(
                "hashing = 'authors' puts the pad token before the start, and the tokenizer has "
                "neither a pad nor an end-of-text token; set its pad_token, or hashing = 'own'"
            )
    return (n_ids, n_ids + 1) if pad is None else (int(token_ids[pad]), n_ids)


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


def _fold_as_the_authors(tokenizer: Any) -> tuple[int, ...]:
    """Canonical ids as the authors' code numbers them.

    A token that is no text has its entry in the vocabulary for a key, as a string among those of
    the others' texts; tokens without any text are one.
    """
    ids: dict[str, int] = {}
    found = []
    for token_id in range(len(tokenizer)):
        text = tokenizer.decode([token_id], skip_special_tokens=False)
        if _NOT_TEXT in text:
            key = tokenizer.convert_ids_to_tokens(token_id)
        else:
            key = _NORMALIZER.normalize_str(text) or text
        found.append(ids.setdefault(key, len(ids)))
    return tuple(found)


def layer_multipliers(seed: int, layer: int, n_multipliers: int, n_ids: int) -> np.ndarray:
    """Odd int64 multipliers (n_multipliers,) of one layer, so small that id x multiplier fits.

    Drawn by NumPy's default_rng(seed + 10007 x layer) below half of int64max / n_ids, doubled
    plus one (the authors' code); ``n_ids`` is the number of canonical ids.
    """
    bound = max(1, np.iinfo(np.int64).max // n_ids // 2)
    generator = np.random.default_rng(seed + LAYER_STRIDE * layer)
    return generator.integers(0, bound, size=n_multipliers, dtype=np.int64) * 2 + 1


class NgramHash(nn.Module):
    """Token ids to row numbers, for all modules at once and on the ids' own device.

    For order n the mix is XOR over i < n of (x'_{t-i} x m_i) in wrapping int64; head k takes it
    modulo its own prime (paper, section 2.3). All state is integer buffers, saved with the model:
    a checkpoint needs neither the tokenizer nor the same NumPy to find its rows again.

    Args:
        engram: orders, heads, table sizes, layers and seed.
        token_map: canonical id of each token id, (vocabulary,) int64.
        n_ids: number of canonical ids, one more than the largest.
        pad_id: canonical id that stands before the start and under masked positions.
        end_id: token that ends a document, itself its last; None if none does.
    """

    token_map: Tensor
    multipliers: Tensor
    primes: Tensor
    offsets: Tensor

    def __init__(
        self,
        engram: EngramConfig,
        token_map: Tensor,
        n_ids: int,
        pad_id: int,
        end_id: int | None = None,
    ) -> None:
        super().__init__()
        self.orders = sorted(engram.orders)
        self.heads = engram.heads
        self.pad_id = pad_id
        self.end_id = end_id
        self.is_cut = engram.documents == "apart"
        self.control = engram.control
        self.window = self.orders[-1] if self.control != "unkeyed-rows" else UNKEYED
        layers = sorted(engram.layers)
        tables = table_primes(engram)
        self.rows_per_layer = {layer: sum(tables[layer]) for layer in layers}
        primes = torch.tensor([tables[layer] for layer in layers], dtype=torch.int64)
        first = 0 if engram.hashing == "authors" else 1  # number of the first block in the seed
        multipliers = [
            layer_multipliers(engram.seed, layer - 1 + first, self.window, n_ids)
            for layer in layers
        ]
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

    def since(
        self, input_ids: Tensor, position_ids: Tensor | None = None, goes_on: bool = False
    ) -> Tensor | None:
        """How many tokens of its own document stand before each, (B, T) int64, where they are cut.

        Args:
            input_ids: token ids, (B, T).
            position_ids: 0 where a document begins, (B, T) or (1, T); None if they say nothing.
            goes_on: whether tokens came before these.

        Returns:
            `FAR` for those whose document began before; None if nothing here is cut.
        """
        return since_start(input_ids, self.end_id, position_ids, goes_on) if self.is_cut else None

    def windows(self, canonical: Tensor, since: Tensor | None = None) -> Tensor:
        """The N ids that each token's rows are made of, latest first, (N, B, T) int64.

        Args:
            canonical: (B, N - 1 + T), as `canonical` gives it.
            since: as `since` gives it.
        """
        n_tokens = canonical.shape[1] - self.window + 1
        starts = range(self.window - 1, -1, -1)
        windows = torch.stack([canonical[:, start : start + n_tokens] for start in starts])
        if since is None:
            return windows
        lags = torch.arange(self.window, device=since.device)[:, None, None]
        return windows.masked_fill(since < lags, self.pad_id)

    def next_tail(self, canonical: Tensor, input_ids: Tensor, since: Tensor | None) -> Tensor:
        """Canonical ids (B, N - 1) that the next call finds before its first token.

        Those of a document that has ended are pads, as they would be at the start.
        """
        tail = canonical[:, canonical.shape[1] - self.window + 1 :]
        reach = self.reach(input_ids, since)
        if reach is None:
            return tail
        lags = torch.arange(self.window - 1, 0, -1, device=tail.device)
        return tail.masked_fill(reach[:, None] < lags, self.pad_id)

    def reach(self, input_ids: Tensor, since: Tensor | None) -> Tensor | None:
        """How many tokens of its document the next token finds before it, (B,); None: all."""
        if not self.is_cut or (since is None and self.end_id is None):
            return None
        last = input_ids[:, -1]
        reach = torch.full_like(last, FAR) if since is None else since[:, -1] + 1
        return reach if self.end_id is None else reach.masked_fill(last == self.end_id, 0)

    def forward(self, canonical: Tensor, since: Tensor | None = None) -> Tensor:
        """Row numbers of every n-gram, (L, B, T, P) int64, each in its layer's joint table.

        Args:
            canonical: (B, N - 1 + T), as `canonical` gives it.
            since: where n-grams are cut, as `since` gives it.
        """
        mix: Tensor | None = None
        mixes = []
        for lag, ids in enumerate(self.windows(canonical, since)):
            term = ids[None] * self.multipliers[:, lag, None, None]
            mix = term if mix is None else mix ^ term
            if lag + 1 in self.orders:
                mixes.append(mix)
        if self.control == "unkeyed-rows":  # all orders by everything in the window
            mixes = [cast(Tensor, mix)] * len(self.orders)
        per_table = torch.stack(mixes, dim=-1).repeat_interleave(self.heads, dim=-1)
        rows = torch.remainder(per_table, self.primes[:, None, None, :])
        if self.control == "one-row":
            rows = torch.zeros_like(rows)
        return rows + self.offsets[:, None, None, :]
