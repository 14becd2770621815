"""What Engram modules let through: gates by entity type and token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Array, Arrays, Pack, Result, Row, along, count, fits
from engramcka.results.statistics import Float

_TYPE = ("type", "layer", "stream")
_TYPES = ("alpha", "alpha_low", "alpha_high")


@dataclass(frozen=True, eq=False)
class GateText:
    """One text, token by token (Engram paper, Figure 7)."""

    tokens: tuple[str, ...]  # as text; joined they give the passage back
    alpha: Float  # (tokens, modules, streams), 0 to 1

    def __post_init__(self) -> None:
        alpha = np.asarray(self.alpha, dtype=np.float64)
        if alpha.ndim != 3 or len(alpha) != len(self.tokens):
            raise ComparisonError(
                f"gates of a text are (tokens = {len(self.tokens)}, modules, streams), found "
                f"shape {alpha.shape}"
            )
        object.__setattr__(self, "alpha", alpha)


@dataclass(frozen=True, eq=False)
class GateMap(Result):
    """Gates alpha (equation 4) of every Engram module: by entity type, and on chosen texts."""

    beside: ClassVar[tuple[str, ...]] = ("texts",)

    layers: tuple[int, ...] = field(metadata=along("layer", name="layer"))
    """The modules' blocks, from 1."""
    types: tuple[str, ...]  # entity types; "all" and "outside" among them
    alpha: Float = field(metadata=along(*_TYPE))
    """(types, modules, streams), mean over the tokens of the type."""
    alpha_low: Float | None = field(default=None, metadata=along(*_TYPE))
    """Ends of the 95 % interval of the mean."""
    alpha_high: Float | None = field(default=None, metadata=along(*_TYPE))
    counts: tuple[int, ...] = ()  # tokens of each type
    orders: tuple[int, ...] = ()  # n-gram orders
    order_share: Float | None = field(default=None, metadata=along("layer", "order"))
    """(modules, orders) share of the value's squared norm, sum 1."""
    collisions: Float | None = field(default=None, metadata=along("layer", "order"))
    """(modules, orders) share of distinct n-grams not alone in a row."""
    texts: tuple[GateText, ...] = ()
    label: str = "model"
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    frequencies: tuple[str, ...] = ()
    """Classes of n-grams by how often they stood in the training text; types of ``alpha`` too."""
    frequency_collisions: Float | None = field(
        default=None, metadata=along("frequency", "layer", "order")
    )
    """(frequencies, modules, orders) the collisions of each class."""

    def __post_init__(self) -> None:
        self._set_whole_numbers("layers", "counts", "orders")
        self._set_floats(
            [
                "alpha",
                "alpha_low",
                "alpha_high",
                "order_share",
                "collisions",
                "frequency_collisions",
            ],
            None,
            "",
        )
        if self.alpha.ndim != 3 or self.alpha.shape[:2] != (len(self.types), len(self.layers)):
            raise ComparisonError(
                f"gates are (types = {len(self.types)}, modules = {len(self.layers)}, streams), "
                f"found shape {self.alpha.shape}"
            )

    def rows(self) -> Iterator[Row]:
        """One a type, module and stream."""
        columns = {"alpha": self.alpha, "alpha_low": self.alpha_low, "alpha_high": self.alpha_high}
        there = {name: values for name, values in columns.items() if values is not None}
        for kind, name in enumerate(self.types):
            count = self.counts[kind] if kind < len(self.counts) else None
            for module, layer in enumerate(self.layers):
                for stream in range(self.alpha.shape[2]):
                    cells = {key: float(v[kind, module, stream]) for key, v in there.items()}
                    yield {"model": one_line(self.label), "type": one_line(name), "tokens": count,
                           "layer": layer, "stream": stream, **cells}  # fmt: skip

    def text_rows(self) -> Iterator[Row]:
        """The gates of every token of the texts: one a token, module and stream."""
        for number, text in enumerate(self.texts):
            for index, token in enumerate(text.tokens):
                for module, layer in enumerate(self.layers):
                    for stream, alpha in enumerate(text.alpha[index, module]):
                        yield {"text": number, "position": index, "token": token, "layer": layer,
                               "stream": stream, "alpha": float(alpha)}  # fmt: skip

    def summary(self) -> str:
        """The mean gate of every module, and which order of n-grams answers."""
        modules = []
        for place, layer in enumerate(self.layers):
            means = self.alpha[:, place].mean(axis=-1)
            text = f"layer {layer}: mean gate {means[self.types.index('all')]:.3f}"
            if self.order_share is not None:
                best = int(np.argmax(self.order_share[place]))
                share, order = self.order_share[place, best], self.orders[best]
                text += f", {share:.0%} of the value by {order}-grams"
            modules.append(text)
        return f"{self.label}, {'; '.join(modules)}"

    def size(self) -> str:
        """Its modules, streams and texts."""
        counts = (
            (len(self.layers), "module"),
            (self.alpha.shape[2], "stream"),
            (len(self.texts), "text"),
        )
        return "  ".join(count(number, noun) for number, noun in counts)

    def _pack_more(self) -> Pack:
        arrays: Arrays = {
            f"text_{index:03d}": (text.alpha, (f"token_{index:03d}", "layer", "stream"))
            for index, text in enumerate(self.texts)
        }
        return arrays, {"texts": [list(text.tokens) for text in self.texts]}

    @classmethod
    def _unpack_more(
        cls, arrays: Mapping[str, Array], attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        texts = attributes.get("texts", [])
        if not all(fits(token, str) for tokens in texts for token in tokens):
            raise ValueError("tokens that are no text")
        return {
            "texts": tuple(
                GateText(tuple(tokens), arrays[f"text_{index:03d}"])
                for index, tokens in enumerate(texts)
            )
        }
