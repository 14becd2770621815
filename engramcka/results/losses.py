"""What sweeps have in common: validation losses of several points, each trained with some seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.base import Result, count
from engramcka.results.statistics import Float, deviation, mean_finite


class SeedSweep(Result):
    """Losses (points, seeds), NaN where a point is not (yet) there; nats a token."""

    noun: ClassVar[str] = "sweep"

    loss: Float
    seeds: tuple[int, ...]
    unit: str

    @property
    def mean(self) -> Float:
        """(points,) mean over the seeds that are there; NaN where none is."""
        return mean_finite(self.loss)

    @property
    def best_point(self) -> int | None:
        """Index of the point with the lowest mean; None where no point is there."""
        mean = self.mean
        return int(np.nanargmin(mean)) if np.isfinite(mean).any() else None

    @property
    def doubts(self) -> tuple[str, ...]:
        """None: `summary` says which points are missing."""
        return ()

    def _set_losses(self, points: int, what: str) -> None:
        """Make seeds whole numbers and losses a matrix.

        Raises:
            ComparisonError: there are none, or not one a point and seed; ``what`` names the sweep.
        """
        self._set_whole_numbers("seeds")
        loss = np.asarray(self.loss, dtype=np.float64)
        loss = loss[:, None] if loss.ndim == 1 else loss
        if loss.shape != (points, len(self.seeds)) or not loss.size:
            raise ComparisonError(
                f"{what} = ({points}, {len(self.seeds)}), found shape {loss.shape}"
            )
        self._set(loss=loss)

    @property
    def difference(self) -> Float:
        """(points,) mean of the losses less those of what the sweep is compared with."""
        raise NotImplementedError

    def difference_from(self, other: Float) -> Float:
        """(points,) mean of the losses less another model's, seed by seed where both are there.

        Args:
            other: (seeds,), or of other seeds: then means are compared.
        """
        if len(other) != len(self.seeds):
            return self.mean - mean_finite(other)
        return mean_finite(self.loss - other)

    @property
    def bars(self) -> Float:
        """(points,) half the length of the bar that is drawn: one standard deviation over seeds."""
        return deviation(self.loss)

    def spread(self, losses: Float) -> str:
        """Standard deviation over the seeds in words, "" of fewer than two."""
        found = float(deviation(losses))
        return f" (s.d. {found:.3f})" if np.isfinite(found) else ""

    def size(self) -> str:
        """Its points, seeds and unit."""
        points, seeds = count(len(self.loss), "point"), count(len(self.seeds), "seed")
        return f"{points}  {seeds}  {self.unit}"

    def _sentence(self, parts: list[str]) -> str:
        """The summary: unit and seeds, then what was found."""
        seeds = count(len(self.seeds), "seed")
        return f"validation loss in {self.unit}, {seeds}: {', '.join(parts)}"

    def _missing(self) -> str:
        if len(self.warnings) > 1:
            return f"; {len(self.warnings)} points are missing"
        return f"; {self.warnings[0]}" if self.warnings else ""


class BaselineSweep(SeedSweep):
    """A sweep beside the same model without memory."""

    baseline: Float  # (seeds,); empty where unknown
    baseline_label: str

    @property
    def baseline_mean(self) -> float:
        """Mean of the baseline over the seeds that are there; NaN where none is."""
        return float(mean_finite(self.baseline))

    @property
    def difference(self) -> Float:
        """(points,) mean of loss - baseline, seed by seed where both are there; NaN where none."""
        return self.difference_from(self.baseline)

    def _by_seed(self) -> Iterator[tuple[int | None, float]]:
        """Each loss of the baseline with its seed; None where its seeds are not the sweep's."""
        known = len(self.baseline) == len(self.seeds)
        for index, loss in enumerate(self.baseline):
            yield (self.seeds[index] if known else None), float(loss)

    def _baseline_part(self) -> list[str]:
        """The baseline's mean as a part of the summary; none where it is unknown."""
        if not np.isfinite(self.baseline_mean):
            return []
        return [f"{self.baseline_label} {self.baseline_mean:.3f}"]
