"""What a model is worth without its memory: the loss with Engram modules on and off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along
from engramcka.results.statistics import Float


@dataclass(frozen=True, eq=False)
class MemoryAblation(Result):
    """Validation loss with the memory and with it silenced, by token class (section 6.3).

    Arrays are (classes,) float64, means over the tokens of a class, nats a token.
    """

    classes: tuple[str, ...]  # "all", "inside an entity", "outside"
    loss_on: Float = field(metadata=along("class"))
    loss_off: Float = field(metadata=along("class"))
    difference_low: Float | None = field(default=None, metadata=along("class"))
    """Ends of the 95 % interval of loss_off - loss_on."""
    difference_high: Float | None = field(default=None, metadata=along("class"))
    counts: tuple[int, ...] = ()  # tokens of each class
    label: str = "model"
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_whole_numbers("counts")
        self._set_floats(
            ["loss_on", "loss_off", "difference_low", "difference_high"],
            (len(self.classes),),
            f"{{}} has one value a class ({len(self.classes)})",
        )

    @property
    def kept(self) -> Float:
        """(classes,) share of the likelihood a token that is kept: exp(loss_on - loss_off)."""
        return np.exp(self.loss_on - self.loss_off)

    def rows(self) -> Iterator[Row]:
        """A row a token class: loss with memory and without, interval of the difference."""
        columns = {
            "loss_on": self.loss_on, "loss_off": self.loss_off,
            "difference_low": self.difference_low, "difference_high": self.difference_high,
            "kept": self.kept,
        }  # fmt: skip
        for index, name in enumerate(self.classes):
            count = self.counts[index] if index < len(self.counts) else None
            yield {"model": one_line(self.label), "class": one_line(name), "tokens": count,
                   **{k: float(v[index]) for k, v in columns.items() if v is not None}}  # fmt: skip

    def summary(self) -> str:
        """What silencing the memory costs, by token class, in nats a token."""
        parts = []
        for place, name in enumerate(self.classes):
            low, high = self.difference_low, self.difference_high
            text = f"{name} {self.loss_off[place] - self.loss_on[place]:+.3f}"
            if low is not None and high is not None and np.isfinite(low[place]):
                text += f" ({low[place]:+.3f} to {high[place]:+.3f})"
            parts.append(text)
        return f"{self.label}, loss without memory: {', '.join(parts)}"
