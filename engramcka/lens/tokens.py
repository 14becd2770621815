"""Passages as tokens that know which entity they stand in.

Takes a tokenizer as an argument and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.documents import Entity

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenText:
    """One text as a model reads it."""

    document: str
    text: str
    ids: Ints  # (tokens,)
    spans: Ints  # (tokens, 2) characters of each; empty for special tokens
    kind: npt.NDArray[np.str_]  # (tokens,) kind of the entity it stands in; "" outside any

    @property
    def is_text(self) -> npt.NDArray[np.bool_]:
        """(tokens,) False for special tokens, which stand for no character."""
        found: npt.NDArray[np.bool_] = self.spans[:, 1] > self.spans[:, 0]
        return found

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text cut at the tokens' ends: joined, it is the text as far as tokens reach.

        What no token covers (a space that the tokenizer drops) goes to the token after it; of the
        tokens that are parts of one character, the first has it.
        """
        ends = np.maximum.accumulate(self.spans[:, 1]) if len(self.spans) else self.spans[:, 1]
        starts = [0, *ends.tolist()]
        return tuple(self.text[a:b] for a, b in zip(starts, ends.tolist(), strict=False))


def token_texts(
    tokenizer: Any,
    texts: Sequence[tuple[str, str]],
    entities: Iterable[Iterable[Entity]],
    max_length: int,
) -> list[TokenText]:
    """Tokenise texts and mark the tokens that share a character with an entity.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        texts: (document, text) each.
        entities: of each text, by characters of the text.
        max_length: tokens a text; what comes after is cut off.
    """
    found = tokenizer(
        [text for _, text in texts],
        truncation=True,
        max_length=max_length,
        return_offsets_mapping=True,
    )
    made = []
    for (document, text), ids, offsets, marked in zip(
        texts, found["input_ids"], found["offset_mapping"], entities, strict=True
    ):
        spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        names = np.full(len(spans), "", dtype=object)
        for entity in marked:
            full = spans[:, 1] > spans[:, 0]
            names[full & (spans[:, 0] < entity.end) & (entity.start < spans[:, 1])] = (
                entity.kind or entity.type or "entity"
            )
        made.append(
            TokenText(document, text, np.array(ids, dtype=np.int64), spans, names.astype(str))
        )
    return made
