"""LogitLens curves: how close each block's prediction is to the model's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along
from engramcka.results.statistics import Float

Direction = Literal["final||layer", "layer||final"]

_READINGS = [f"{reading}{end}" for reading in ("kl", "entropy", "top1")
             for end in ("", "_low", "_high")]  # fmt: skip


@dataclass(frozen=True, eq=False)
class LensCurve(Result):
    """Read-outs of every block through the model's final norm and LM head, means over tokens.

    Engram paper, section 6.2 and Figure 4 (a); nostalgebraist 2020 for the LogitLens, Belrose et
    al. 2023 for the direction KL(final || layer). Every array is (layers,) float64; ends of 95 %
    intervals are None where there are too few tokens for one.
    """

    layers: tuple[int, ...] = field(metadata=along("layer", name="layer"))
    """Block numbers, from 1."""
    kl: Float = field(metadata=along("layer"))
    """Nats a token, in `direction`."""
    kl_low: Float | None = field(default=None, metadata=along("layer"))
    kl_high: Float | None = field(default=None, metadata=along("layer"))
    entropy: Float | None = field(default=None, metadata=along("layer"))
    """Of the block's own prediction, nats."""
    entropy_low: Float | None = field(default=None, metadata=along("layer"))
    entropy_high: Float | None = field(default=None, metadata=along("layer"))
    top1: Float | None = field(default=None, metadata=along("layer"))
    """Share of tokens where the block's first guess is the model's."""
    top1_low: Float | None = field(default=None, metadata=along("layer"))
    top1_high: Float | None = field(default=None, metadata=along("layer"))
    label: str = "model"
    direction: Direction | Literal["unknown"] = "final||layer"
    final_entropy: float | None = None  # of the model's own prediction, nats
    n_tokens: int | None = None
    memory: bool = True  # False: Engram modules silenced
    where: str = ""  # which samples, as "kind = 'person'"; all of them if empty
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_whole_numbers("layers")
        wants = f"a lens curve has one {{}} a layer ({len(self.layers)})"
        if not self.layers:
            raise ComparisonError(f"{wants.format('kl')}, found none")
        self._set_floats(_READINGS, (len(self.layers),), wants)

    def rows(self) -> Iterator[Row]:
        """A row a layer: each reading with its interval."""
        there = {name: v for name in _READINGS if (v := getattr(self, name)) is not None}
        for index, layer in enumerate(self.layers):
            yield {"model": one_line(self.label), "memory": "on" if self.memory else "off",
                   "direction": self.direction, "layer": layer,
                   **{name: float(values[index]) for name, values in there.items()}}  # fmt: skip

    def size(self) -> str:
        """How many layers it has and how many tokens it was read at."""
        return f"{len(self.layers)} layers  n={self.n_tokens}" if self.n_tokens else ""

    def summary(self) -> str:
        """The divergence early and halfway, and where guesses agree."""
        middle = (len(self.layers) - 1) // 2
        places = [f"{self.kl[place]:.2f} after layer {self.layers[place]}" for place in (0, middle)]
        text = f"{self.label}{'' if self.memory else ' without memory'}: "
        text += (
            f"KL({self.direction.replace('||', ' || ')}) {', '.join(dict.fromkeys(places))} (nats)"
        )
        if self.top1 is not None and (self.top1 >= 0.5).any():
            layer = self.layers[int(np.argmax(self.top1 >= 0.5))]
            text += f"; half of the first guesses are the model's from layer {layer} on"
        return text
