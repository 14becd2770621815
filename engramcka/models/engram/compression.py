"""Tokenizer compression: the table that folds token ids which mean the same text.

Token ids that differ only in case, accents, Unicode form or white space get one canonical id, so
that an n-gram's address does not depend on them (paper, section 2.2). Knows nothing of models.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, normalizers
from torch import Tensor

from engramcka.errors import ConfigError

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
