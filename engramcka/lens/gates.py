"""Gates and losses of single tokens as means by class with intervals; the tokens and their classes.

The class of a token is the kind of the entity it stands in. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.data.documents import Entity
from engramcka.errors import ComparisonError
from engramcka.lens.curve import few_documents
from engramcka.lens.ngrams import Frequencies
from engramcka.results import GateMap, GateText, MemoryAblation
from engramcka.results.statistics import Float, clustered_mean

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenText:
    """One text as a model reads it."""

    document: str
    text: str
    ids: Ints  # (tokens,)
    spans: Ints  # (tokens, 2) characters of each; empty for special tokens
    kind: npt.NDArray[np.str_]  # (tokens,) kind of the entity it stands in; "" outside any
    is_other: bool = False  # whether it is beside the run's own text

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


ALL, OUTSIDE, INSIDE, OTHER = "all", "outside", "inside an entity", "other text"


def gate_map(
    texts: Sequence[TokenText],
    alpha: npt.NDArray[Any],
    shares: npt.NDArray[Any],
    *,
    layers: Sequence[int],
    orders: Sequence[int],
    collisions: Float | None = None,
    frequency: Frequencies | None = None,
    frequency_collisions: Float | None = None,
    shown: Sequence[GateText] = (),
    label: str = "model",
    provenance: Mapping[str, Any] | None = None,
) -> GateMap:
    """Mean gates by kind of entity, with 95 % intervals over documents, and the orders' shares.

    Args:
        texts: the passages; special tokens count in no mean.
        alpha: (tokens, modules, streams), of all passages end to end.
        shares: (tokens, modules, orders), <v_n, v> as `engramcka.lens.passes.token_gates` has it.
            Summed over tokens and divided by the sum of |v|^2: a token counts by the size of what
            was looked up. A share may be negative where an order works against the others. No
            orders: the result has none.
        layers: the modules' blocks.
        orders: n-gram orders.
        collisions: (modules, orders).
        frequency: how often the tokens' n-grams stood in the training text; further classes.
        frequency_collisions: (classes of frequency, modules, orders).
        shown: texts token by token.
        label: of the model.
        provenance: kept as it is.
    """
    is_text, is_other, kind, document = _tokens(texts)
    classes = {ALL: is_text, OUTSIDE: is_text & (kind == "")}
    classes |= {name: kind == name for name in sorted(set(kind.tolist()) - {""})}
    if frequency is not None:
        masks = frequency.masks(frequency.classes[:, -1])
        classes |= {name: mask & is_text for name, mask in masks.items() if (mask & is_text).any()}
    if is_other.any():
        classes[OTHER] = is_other
    flat = alpha.reshape(len(alpha), -1).astype(np.float64)
    means = [clustered_mean(flat, document, mask.astype(float)) for mask in classes.values()]
    mean, low, high = (
        np.stack([one[end] for one in means]).reshape(len(classes), *alpha.shape[1:])
        for end in range(3)
    )
    total = shares[is_text].sum(axis=0)
    warnings = few_documents(len(np.unique(document)))
    if not any(kind[is_text].tolist()):
        warnings += ("no token of the passages stands in an entity",)
    return GateMap(
        tuple(layers),
        tuple(classes),
        mean,
        alpha_low=low,
        alpha_high=high,
        counts=tuple(int(mask.sum()) for mask in classes.values()),
        orders=tuple(orders),
        order_share=total / total.sum(axis=1, keepdims=True) if total.size else None,
        collisions=collisions,
        frequencies=() if frequency is None else frequency.names,
        frequency_collisions=frequency_collisions,
        texts=tuple(shown),
        label=label,
        warnings=warnings,
        provenance=provenance or {},
    )


def memory_ablation(
    texts: Sequence[TokenText],
    loss_on: Float,
    loss_off: Float,
    *,
    frequency: Frequencies | None = None,
    label: str = "model",
    provenance: Mapping[str, Any] | None = None,
) -> MemoryAblation:
    """Mean losses with and without memory, and the interval of their difference.

    The difference is taken token by token, so what makes a token hard in both drops out, and its
    interval counts documents.

    Args:
        texts: the passages; the class is that of the predicted token.
        loss_on: (tokens,) nats, of all passages end to end; NaN where nothing was predicted.
        loss_off: the same without memory.
        frequency: how often the n-gram that ends before the predicted token stood in the training
            text; further classes.
        label: of the model.
        provenance: kept as it is.

    Raises:
        ComparisonError: not one predicted token, or losses that are not finite.
    """
    is_text, is_other, kind, document = _tokens(texts)
    predicted = ~np.isnan(loss_on)
    used, other = is_text & predicted, is_other & predicted
    if not used.any() or not np.isfinite((loss_on + loss_off)[used | other]).all():
        raise ComparisonError(
            f"memory of {label}: {int(used.sum())} tokens are predicted in the passages, and their "
            "losses are not all finite; load the model in bfloat16 or float32"
        )
    masks = {ALL: used, INSIDE: used & (kind != ""), OUTSIDE: used & (kind == "")}
    if frequency is not None:
        before = np.roll(frequency.classes[:, -1], 1)  # of a text's first token: it is not used
        masks |= {name: mask & used for name, mask in frequency.masks(before).items()}
    masks[OTHER] = other
    classes = {name: mask for name, mask in masks.items() if mask.any()}
    losses = np.nan_to_num(np.stack([loss_on, loss_off, loss_off - loss_on], axis=1))
    means = [clustered_mean(losses, document, mask.astype(float)) for mask in classes.values()]
    on, off = (np.array([mean[column] for mean, _, _ in means]) for column in (0, 1))
    return MemoryAblation(
        tuple(classes),
        on,
        off,
        difference_low=np.array([low[2] for _, low, _ in means]),
        difference_high=np.array([high[2] for _, _, high in means]),
        counts=tuple(int(mask.sum()) for mask in classes.values()),
        label=label,
        warnings=few_documents(len(np.unique(document))),
        provenance=provenance or {},
    )


def _tokens(
    texts: Sequence[TokenText],
) -> tuple[
    npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.str_], npt.NDArray[np.int64]
]:
    """Of all tokens, end to end: text of the run, other text, their kind, their document's number.

    Special tokens are neither.
    """
    names = np.concatenate([np.full(len(text.ids), text.document, dtype=object) for text in texts])
    return (
        np.concatenate([text.is_text & (not text.is_other) for text in texts]),
        np.concatenate([text.is_text & text.is_other for text in texts]),
        np.concatenate([text.kind for text in texts]),
        np.unique(names.astype(str), return_inverse=True)[1],
    )
