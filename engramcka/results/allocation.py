"""Validation loss against how a fixed number of sparse parameters is shared out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Row, along
from engramcka.results.losses import SeedSweep
from engramcka.results.statistics import Float


@dataclass(frozen=True, eq=False)
class AllocationSweep(SeedSweep):
    """Validation loss against rho, the share of the sparse parameters that experts keep.

    Engram paper, section 3.2 and Figure 3 (left): at a fixed total of sparse parameters, 1 - rho of
    them go to memory; rho = 1 is the mixture of experts alone. Losses in nats a token.
    """

    rho: Float = field(metadata=along("rho"))  # (points,), in (0, 1]
    loss: Float = field(metadata=along("rho", "seed"))
    """(points, seeds); NaN where a point is not (yet) there."""
    seeds: tuple[int, ...] = field(default=(0,), metadata=along("seed", name="seed"))
    experts: tuple[int, ...] = ()  # routed experts a block at each point; () where unknown
    parameters: tuple[int, ...] = ()  # of the whole model at each point; () where unknown
    label: str = "model"
    unit: str = "nats/token"
    warnings: tuple[str, ...] = ()  # points that are not there, and why
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set(rho=np.asarray(self.rho, dtype=np.float64))
        if self.rho.ndim != 1:
            raise ComparisonError(f"rho is one number a point, found shape {self.rho.shape}")
        self._set_losses(self.rho.size, "an allocation sweep's loss is (points, seeds)")

    @property
    def best(self) -> tuple[float, float] | None:
        """(rho, its mean loss) with the lowest mean; None where no point is there."""
        point = self.best_point
        return None if point is None else (float(self.rho[point]), float(self.mean[point]))

    @property
    def experts_alone(self) -> float:
        """Mean loss of the mixture of experts alone, rho = 1; NaN where it is not there."""
        there = self.mean[self.rho == 1.0]
        return float(there[0]) if len(there) else float("nan")

    @property
    def difference(self) -> Float:
        """(points,) mean of loss - that of the experts alone, seed by seed where both are there."""
        alone = self.loss[self.rho == 1.0]
        return self.difference_from(alone[0] if len(alone) else np.array([]))

    def rows(self) -> Iterator[Row]:
        """One a rho and seed."""
        experts: Sequence[Any] = self.experts or [None] * len(self.rho)
        for rho, count, losses in zip(self.rho, experts, self.loss, strict=True):
            for seed, loss in zip(self.seeds, losses, strict=True):
                yield {"name": one_line(self.label), "rho": float(rho), "experts": count,
                       "seed": seed, "loss": float(loss)}  # fmt: skip

    def summary(self) -> str:
        """The best share of experts, against experts alone."""
        parts = []
        if np.isfinite(self.experts_alone):
            parts.append(f"experts alone {self.experts_alone:.3f}")
        point = self.best_point
        if point is None:
            parts.append("no point yet")
        else:
            found = f"{self.mean[point]:.3f}{self.spread(self.loss[point])}"
            parts.append(f"best at rho = {self.rho[point]:.2f}: {found}")
        return self._sentence(parts) + self._missing()
