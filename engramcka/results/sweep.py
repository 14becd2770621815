"""Validation loss against where a memory module sits, or against how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float, mean_finite


@dataclass(frozen=True, eq=False)
class LossSweep:
    """Validation loss against the block at whose input one memory module sits.

    Losses are means over validation tokens, in nats a token.
    """

    layers: tuple[int, ...]  # insertion layers, blocks counted from 1
    loss: Float  # (layers, seeds); NaN where a point is not (yet) there
    baseline: Float  # (seeds,), the same model without the module; empty where unknown
    seeds: tuple[int, ...] = (0,)
    label: str = "model"
    baseline_label: str = "baseline"
    reference: Mapping[str, float] = field(default_factory=dict)  # further lines: name -> loss
    variants: Mapping[str, float] = field(default_factory=dict)  # ablations: name -> loss
    variant_losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by seed
    reference_losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by seed
    difference_low: Float | None = None  # (layers,) ends of the 95 % interval of `difference`,
    difference_high: Float | None = None  # over validation documents and, if several, seeds
    unit: str = "nats/token"
    warnings: tuple[str, ...] = ()  # points that are not there, and why
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(int(layer) for layer in self.layers))
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        loss = np.asarray(self.loss, dtype=np.float64)
        loss = loss[:, None] if loss.ndim == 1 else loss
        if loss.shape != (len(self.layers), len(self.seeds)) or not self.layers:
            raise ComparisonError(
                f"a sweep's loss is (layers, seeds) = ({len(self.layers)}, {len(self.seeds)}), "
                f"found shape {loss.shape}"
            )
        object.__setattr__(self, "loss", loss)
        for name in ("difference_low", "difference_high"):
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value, dtype=np.float64)
                if value.shape != (len(self.layers),):
                    raise ComparisonError(
                        f"a sweep has one {name} a layer ({len(self.layers)}), found {value.shape}"
                    )
                object.__setattr__(self, name, value)
        object.__setattr__(self, "baseline", np.atleast_1d(np.asarray(self.baseline, np.float64)))
        for means, losses in (("variants", "variant_losses"), ("reference", "reference_losses")):
            self._check_lines(getattr(self, means), getattr(self, losses))

    def _check_lines(
        self, means: Mapping[str, float], losses: Mapping[str, tuple[float, ...]]
    ) -> None:
        for name, values in losses.items():
            if name not in means or len(values) != len(self.seeds):
                raise ComparisonError(
                    f"{name!r} has losses of {len(values)} seeds and "
                    f"{'a' if name in means else 'no'} mean; a sweep of {len(self.seeds)} seeds "
                    "wants both"
                )

    @property
    def mean(self) -> Float:
        """(layers,) mean over the seeds that are there; NaN where none is."""
        return mean_finite(self.loss)

    @property
    def baseline_mean(self) -> float:
        """Mean of the baseline over the seeds that are there; NaN where none is."""
        return float(mean_finite(self.baseline))

    @property
    def difference(self) -> Float:
        """(layers,) mean of loss - baseline, seed by seed where both are there; NaN where none."""
        if len(self.baseline) != len(self.seeds):
            return self.mean - self.baseline_mean
        return mean_finite(self.loss - self.baseline)

    @property
    def best(self) -> tuple[int, float] | None:
        """(insertion layer, its mean loss) with the lowest mean; None where no point is there."""
        mean = self.mean
        if not np.isfinite(mean).any():
            return None
        index = int(np.nanargmin(mean))
        return self.layers[index], float(mean[index])

    def _repr_png_(self) -> bytes:
        """The sweep as a notebook shows it."""
        return bytes(import_module("engramcka.figures").notebook_png(self))


@dataclass(frozen=True, eq=False)
class AllocationSweep:
    """Validation loss against rho, the share of the sparse parameters that experts keep.

    Engram paper, section 3.2 and Figure 3 (left): at a fixed total of sparse parameters, 1 - rho of
    them go to memory; rho = 1 is the mixture of experts alone. Losses in nats a token.
    """

    rho: Float  # (points,), in (0, 1]
    loss: Float  # (points, seeds); NaN where a point is not (yet) there
    seeds: tuple[int, ...] = (0,)
    experts: tuple[int, ...] = ()  # routed experts a block at each point; () where unknown
    parameters: tuple[int, ...] = ()  # of the whole model at each point; () where unknown
    label: str = "model"
    unit: str = "nats/token"
    warnings: tuple[str, ...] = ()  # points that are not there, and why
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", np.asarray(self.rho, dtype=np.float64))
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        loss = np.asarray(self.loss, dtype=np.float64)
        loss = loss[:, None] if loss.ndim == 1 else loss
        if self.rho.ndim != 1 or loss.shape != (len(self.rho), len(self.seeds)) or not loss.size:
            raise ComparisonError(
                f"an allocation sweep's loss is (points, seeds) = ({len(self.rho)}, "
                f"{len(self.seeds)}), found shape {loss.shape}"
            )
        object.__setattr__(self, "loss", loss)

    @property
    def mean(self) -> Float:
        """(points,) mean over the seeds that are there; NaN where none is."""
        return mean_finite(self.loss)

    @property
    def best(self) -> tuple[float, float] | None:
        """(rho, its mean loss) with the lowest mean; None where no point is there."""
        mean = self.mean
        if not np.isfinite(mean).any():
            return None
        index = int(np.nanargmin(mean))
        return float(self.rho[index]), float(mean[index])

    def _repr_png_(self) -> bytes:
        """The sweep as a notebook shows it."""
        return bytes(import_module("engramcka.figures").notebook_png(self))
