"""LogitLens curves: how close each block's prediction is to the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float

Direction = Literal["final||layer", "layer||final"]


@dataclass(frozen=True, eq=False)
class LensCurve:
    """Read-outs of every block through the model's final norm and LM head, means over tokens.

    Engram paper, section 6.2 and Figure 4 (a); nostalgebraist 2020 for the LogitLens, Belrose et
    al. 2023 for the direction KL(final || layer). Every array is (layers,) float64; ends of 95 %
    intervals are None where there are too few tokens for one.
    """

    layers: tuple[int, ...]  # block numbers, from 1
    kl: Float  # nats a token, in `direction`
    kl_low: Float | None = None
    kl_high: Float | None = None
    entropy: Float | None = None  # of the block's own prediction, nats
    entropy_low: Float | None = None
    entropy_high: Float | None = None
    top1: Float | None = None  # share of tokens where the block's first guess is the model's
    top1_low: Float | None = None
    top1_high: Float | None = None
    label: str = "model"
    direction: Direction | Literal["unknown"] = "final||layer"
    final_entropy: float | None = None  # of the model's own prediction, nats
    n_tokens: int | None = None
    memory: bool = True  # False: Engram modules silenced
    where: str = ""  # which samples, as in the config; all of them if empty
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        for reading in ("kl", "entropy", "top1"):
            for name in (reading, f"{reading}_low", f"{reading}_high"):
                value = getattr(self, name)
                if value is None:
                    continue
                value = np.asarray(value, dtype=np.float64)
                if value.shape != (len(self.layers),) or not self.layers:
                    raise ComparisonError(
                        f"a lens curve has one {name} a layer ({len(self.layers)}), found shape "
                        f"{value.shape}"
                    )
                object.__setattr__(self, name, value)

    def _repr_png_(self) -> bytes:
        """The curve as a notebook shows it."""
        return bytes(import_module("engramcka.figures").notebook_png(self))
