"""Validation loss against the number of memory slots, with everything else unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Row, along
from engramcka.results.losses import BaselineSweep
from engramcka.results.statistics import Float, student_quantile


@dataclass(frozen=True)
class Line:
    """A straight line of the loss against log10 of the slots; nats a token."""

    start: float  # at one slot
    slope: float  # with every tenfold of slots
    low: float  # ends of the slope's 95 % interval
    high: float


@dataclass(frozen=True, eq=False)
class SlotSweep(BaselineSweep):
    """Validation loss against the rows of a model's memory tables (Engram paper, Figure 3 right).

    Losses in nats a token. The backbone is the same at every point.
    """

    slots: Float = field(metadata=along("slots"))
    """(points,), rows of all tables of the model together."""
    loss: Float = field(metadata=along("slots", "seed"))
    """(points, seeds); NaN where a point is not (yet) there."""
    baseline: Float = field(metadata=along("baseline_seed"))
    """(seeds,), the same model without memory; empty where unknown."""
    seeds: tuple[int, ...] = field(default=(0,), metadata=along("seed", name="seed"))
    parameters: tuple[int, ...] = ()  # of the whole model at each point; () where unknown
    label: str = "model"
    baseline_label: str = "no memory"
    unit: str = "nats/token"
    warnings: tuple[str, ...] = ()  # points that are not there, and why
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set(slots=np.asarray(self.slots, dtype=np.float64))
        if self.slots.ndim != 1 or not (self.slots > 0).all():
            raise ComparisonError("slots are numbers of rows above 0, one a point")
        self._set_losses(self.slots.size, "a slot sweep's loss is (points, seeds)")
        self._set(baseline=np.atleast_1d(np.asarray(self.baseline, dtype=np.float64)))

    @property
    def line(self) -> Line | None:
        """The straight line through the means against log10 of the slots, by least squares.

        Its interval is the usual one of a regression (Student's t, n - 2 degrees of freedom), so
        it takes the points' errors as independent. Means are over the seeds that every point has,
        for seeds differ more than points do. None with fewer than three points.
        """
        there = np.isfinite(self.mean)
        losses = self.loss[there]
        everywhere = np.isfinite(losses).all(axis=0)
        x = np.log10(self.slots[there])
        if len(np.unique(x)) < 3 or not everywhere.any():
            return None
        y = losses[:, everywhere].mean(axis=1)
        slope, start = np.polyfit(x, y, 1)
        left = ((y - start - slope * x) ** 2).sum() / (len(x) - 2)
        error = np.sqrt(left / ((x - x.mean()) ** 2).sum())
        half = student_quantile(len(x) - 2) * error
        return Line(float(start), float(slope), float(slope - half), float(slope + half))

    def rows(self) -> Iterator[Row]:
        """One a number of slots and seed; the baseline has none."""
        for slots, losses in zip(self.slots, self.loss, strict=True):
            for seed, loss in zip(self.seeds, losses, strict=True):
                yield {"name": one_line(self.label), "slots": int(slots), "seed": seed,
                       "loss": float(loss)}  # fmt: skip
        name = one_line(self.baseline_label)
        for of_seed, without in self._by_seed():
            yield {"name": name, "slots": None, "seed": of_seed, "loss": without}

    def summary(self) -> str:
        """The baseline, the lowest loss, and what ten times the slots change."""
        parts = self._baseline_part()
        point = self.best_point
        if point is None:
            parts.append("no point yet")
        else:
            found = f"{self.mean[point]:.3f}{self.spread(self.loss[point])}"
            parts.append(f"lowest with {self.slots[point]:,.0f} slots: {found}")
        line = self.line
        if line is not None:
            slope, low, high = (round(v, 3) + 0.0 for v in (line.slope, line.low, line.high))
            ends = f"95 % {low:+.3f} to {high:+.3f}"
            parts.append(f"{slope:+.3f} with every tenfold of slots ({ends})")
        return self._sentence(parts) + self._missing()
