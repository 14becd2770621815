"""What Engram modules let through, and what a model is worth without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float


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
class GateMap:
    """Gates alpha (equation 4) of every Engram module: by entity type, and on chosen texts."""

    layers: tuple[int, ...]  # the modules' blocks, from 1
    types: tuple[str, ...]  # entity types; "all" and "outside" among them
    alpha: Float  # (types, modules, streams), mean over the tokens of the type
    alpha_low: Float | None = None  # ends of the 95 % interval of the mean
    alpha_high: Float | None = None
    counts: tuple[int, ...] = ()  # tokens of each type
    orders: tuple[int, ...] = ()  # n-gram orders
    order_share: Float | None = None  # (modules, orders) share of the value's squared norm, sum 1
    collisions: Float | None = (
        None  # (modules, orders) share of distinct n-grams not alone in a row
    )
    texts: tuple[GateText, ...] = ()
    label: str = "model"
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("layers", "counts", "orders"):
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        for name in ("alpha", "alpha_low", "alpha_high", "order_share", "collisions"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, np.asarray(value, dtype=np.float64))
        if self.alpha.ndim != 3 or self.alpha.shape[:2] != (len(self.types), len(self.layers)):
            raise ComparisonError(
                f"gates are (types = {len(self.types)}, modules = {len(self.layers)}, streams), "
                f"found shape {self.alpha.shape}"
            )

    def _repr_png_(self) -> bytes:
        """The gates as a notebook shows them."""
        return bytes(import_module("engramcka.figures").notebook_png(self))


@dataclass(frozen=True, eq=False)
class MemoryAblation:
    """Validation loss with the memory and with it silenced, by token class (section 6.3).

    Arrays are (classes,) float64, means over the tokens of a class, nats a token.
    """

    classes: tuple[str, ...]  # "all", "inside an entity", "outside"
    loss_on: Float
    loss_off: Float
    difference_low: Float | None = None  # ends of the 95 % interval of loss_off - loss_on
    difference_high: Float | None = None
    counts: tuple[int, ...] = ()  # tokens of each class
    label: str = "model"
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", tuple(int(value) for value in self.counts))
        for name in ("loss_on", "loss_off", "difference_low", "difference_high"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value, dtype=np.float64)
            if value.shape != (len(self.classes),):
                raise ComparisonError(
                    f"{name} has one value a class ({len(self.classes)}), found {value.shape}"
                )
            object.__setattr__(self, name, value)

    @property
    def kept(self) -> Float:
        """(classes,) share of the likelihood a token that is kept: exp(loss_on - loss_off)."""
        return np.exp(self.loss_on - self.loss_off)

    def _repr_png_(self) -> bytes:
        """The ablation as a notebook shows it."""
        return bytes(import_module("engramcka.figures").notebook_png(self))
