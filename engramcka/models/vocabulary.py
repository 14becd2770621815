"""Token ids that a model's embedding has no row for: refused before a pass, or remarked.

On a GPU such an id ends the process, elsewhere it is an IndexError deep inside the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from engramcka.errors import ConfigError, DataError
from engramcka.models.hooks import CapturePoint, PassHooks
from engramcka.models.stream import run_probe, same

_ADVICE = (
    "resize the embedding where tokens were added (resize_token_embeddings), or give the tokenizer "
    "that the model was trained with"
)


def embedding_rows(model: Any) -> int | None:
    """How many token ids a model knows; None where it cannot be told.

    Args:
        model: of transformers, of which it is asked; or another, of which it is the first
            ``nn.Embedding`` that is given the token ids in a pass over one of them.
    """
    if isinstance(model, PreTrainedModel):
        try:
            embedding: Any = model.get_input_embeddings()
        except NotImplementedError:
            return None
        weight = getattr(embedding, "weight", None)
        sizes = (getattr(embedding, "num_embeddings", 0), 0 if weight is None else len(weight))
        return max(sizes) or None  # one that is shared out over ranks holds fewer itself
    return _rows_seen(model)


def require_rows(
    where: str, model: Any, tokenizer: Any, texts: Iterable[npt.NDArray[np.int64]]
) -> None:
    """Refuse texts with a token id that the embedding has no row for.

    Args:
        where: what the model is called, for the message.
        model: as in `embedding_rows`.
        tokenizer: which made the ids.
        texts: (tokens,) ids of each.

    Raises:
        ConfigError: names the id and its token.
    """
    rows = embedding_rows(model)
    if rows is None:
        return
    for ids in texts:
        beyond = np.flatnonzero(np.asarray(ids) >= rows)
        if len(beyond):
            found = int(ids[beyond[0]])
            raise ConfigError(
                f"{where}: its tokenizer makes {tokenizer.convert_ids_to_tokens(found)!r} = "
                f"{found} of the text, and its embedding has {rows:,} rows, from 0; {_ADVICE}"
            )


def unknown_ids(model: Any, tokenizer: Any) -> tuple[str, ...]:
    """A sentence where a tokenizer has ids that the embedding has no row for.

    A text without them is read as it should be: some models are published so.
    """
    rows = embedding_rows(model)
    beyond = sorted(
        (n, token) for token, n in tokenizer.get_vocab().items() if n >= (rows or n + 1)
    )
    if not beyond:
        return ()
    number, token = beyond[0]
    return (
        f"its tokenizer has {len(beyond):,} tokens that its embedding of {rows:,} rows has none "
        f"for, the first is {token!r} = {number}; a text with one of them is refused",
    )


@torch.no_grad()
def _rows_seen(model: nn.Module) -> int | None:
    """Rows of the first embedding that is given the token ids, in a pass over three of them."""
    some = next(model.parameters(), torch.empty(0))
    ids = torch.tensor([[1, 0, 0]], device=some.device)  # no positions, no types
    tables = {n: module for n, module in enumerate(model.modules()) if _is_table(module)}
    rows: list[int] = []

    def look(number: int, given: Any) -> None:
        if isinstance(given, torch.Tensor) and same(ids, given):
            rows.append(tables[number].num_embeddings)

    points = {number: CapturePoint(table, "input") for number, table in tables.items()}
    with suppress(ConfigError, DataError):  # the model's own, which the first real pass will say
        run_probe(model, PassHooks(points, look), ids, torch.ones_like(ids))
    return rows[0] if rows else None


def _is_table(module: nn.Module) -> TypeGuard[nn.Embedding]:
    return isinstance(module, nn.Embedding)
