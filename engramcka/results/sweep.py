"""Validation loss against the layer where a memory module sits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Array, Arrays, Pack, Row, along
from engramcka.results.losses import BaselineSweep
from engramcka.results.statistics import Float

_LINES = {"variant": "variants", "reference": "reference"}  # dimension -> field
_FROM_WHOLE = ("from_whole", "from_whole_low", "from_whole_high")  # columns of an ablation


@dataclass(frozen=True, eq=False)
class LossSweep(BaselineSweep):
    """Validation loss against the block at whose input one memory module sits.

    Losses are means over validation tokens, in nats a token.
    """

    beside: ClassVar[tuple[str, ...]] = (
        "baseline", "variants", "variant_losses", "variant_differences", "reference",
        "reference_losses",
    )  # fmt: skip

    layers: tuple[int, ...] = field(metadata=along("layer", name="layer"))
    """Insertion layers, blocks counted from 1."""
    loss: Float = field(metadata=along("layer", "seed"))
    """(layers, seeds); NaN where a point is not (yet) there."""
    baseline: Float  # (seeds,), the same model without the module; empty where unknown
    seeds: tuple[int, ...] = field(default=(0,), metadata=along("seed", name="seed"))
    label: str = "model"
    baseline_label: str = "baseline"
    reference: Mapping[str, float] = field(default_factory=dict)  # further lines: name -> loss
    variants: Mapping[str, float] = field(default_factory=dict)  # ablations: name -> loss
    variant_losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by seed
    variant_differences: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Of ablations: mean of their loss less that of `whole`, seed by seed, and the ends of its 95 %
    interval over documents and seeds; above 0 where what the ablation lacks is of use."""
    whole: str = ""  # the model that ablations are made of, as a point of this sweep is called
    reference_losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by seed
    difference_low: Float | None = field(default=None, metadata=along("layer"))
    """(layers,) ends of the 95 % interval of `difference`, over documents and seeds."""
    difference_high: Float | None = field(default=None, metadata=along("layer"))
    unit: str = "nats/token"
    warnings: tuple[str, ...] = ()  # points that are not there, and why
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_whole_numbers("layers")
        self._set_losses(len(self.layers), "a sweep's loss is (layers, seeds)")
        self._set_floats(
            ["difference_low", "difference_high"],
            (len(self.layers),),
            f"a sweep has one {{}} a layer ({len(self.layers)})",
        )
        self._set(baseline=np.atleast_1d(np.asarray(self.baseline, np.float64)))
        for means, losses in (("variants", "variant_losses"), ("reference", "reference_losses")):
            self._check_lines(getattr(self, means), getattr(self, losses))
        for name, found in self.variant_differences.items():
            if name not in self.variants or len(found) != len(_FROM_WHOLE):
                raise ComparisonError(
                    f"{name!r} has {len(found)} numbers of a difference; an ablation that is there "
                    "has the difference, and the low and the high end of its interval"
                )

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
    def bars(self) -> Float:
        """(layers,) half the length of the bar that is drawn.

        That of the 95 % interval of `difference` where it is known, else one standard deviation
        over seeds.
        """
        if self.difference_high is None:
            return super().bars
        return self.difference_high - self.difference

    @property
    def best(self) -> tuple[int, float] | None:
        """(insertion layer, its mean loss) with the lowest mean; None where no point is there."""
        point = self.best_point
        return None if point is None else (self.layers[point], float(self.mean[point]))

    def rows(self) -> Iterator[Row]:
        """One a layer and seed; a baseline, reference or ablation has its name and no layer.

        The interval of a layer's mean difference from the baseline stands beside each of its seeds.
        """
        ends = {"difference_low": self.difference_low, "difference_high": self.difference_high}
        there = {name: values for name, values in ends.items() if values is not None}
        more = dict.fromkeys(_FROM_WHOLE) if self.variant_differences else {}
        for index, (layer, losses) in enumerate(zip(self.layers, self.loss, strict=True)):
            interval = {name: float(values[index]) for name, values in there.items()}
            for seed, loss in zip(self.seeds, losses, strict=True):
                yield {
                    **_row("layer", self.label, loss),
                    "layer": layer,
                    "seed": seed,
                    **interval,
                    **more,
                }
        for of_seed, without in self._by_seed():
            yield {**_row("baseline", self.baseline_label, without), "seed": of_seed}
        for kind, lines in (("reference", self.reference), ("variant", self.variants)):
            for name, loss in lines.items():
                found = self.variant_differences.get(name, ()) if kind == "variant" else ()
                yield {**_row(kind, name, loss), **dict(zip(_FROM_WHOLE, found, strict=False))}

    def summary(self) -> str:
        """The baseline, the best layer, references, ablations and what is missing."""
        parts = self._baseline_part()
        point = self.best_point
        if point is None:
            parts.append("no point yet")
        else:
            found = f"{self.mean[point]:.3f}{self.spread(self.loss[point])}{self._gain(point)}"
            parts.append(f"best at layer {self.layers[point]}: {found}")
        parts += [f"{name} {loss:.3f}" for name, loss in self.reference.items()]
        there = [
            f"{name} {loss:.3f}{self.lost(name)}"
            for name, loss in self.variants.items()
            if np.isfinite(loss)
        ]
        against = f"in brackets less {self.whole}: " if self.variant_differences else ""
        ablations = f"; {against}{', '.join(there)}" if there else ""
        return self._sentence(parts) + ablations + self._missing()

    def size(self) -> str:
        """Its layers, seeds and unit."""
        return super().size().replace("point", "layer", 1)

    def _gain(self, point: int) -> str:
        """A layer's difference from the baseline with its interval, where that is known."""
        low, high = self.difference_low, self.difference_high
        if low is None or high is None or not np.isfinite(low[point]):
            return ""
        ends = f"95 % {low[point]:+.3f} to {high[point]:+.3f}"
        return f", {self.difference[point]:+.3f} ({ends})"

    def lost(self, name: str) -> str:
        """An ablation's difference from the whole model with its interval; "" where unknown."""
        if name not in self.variant_differences:
            return ""
        difference, low, high = self.variant_differences[name]
        return f" ({difference:+.3f}, 95 % {low:+.3f} to {high:+.3f})"

    def _pack_more(self) -> Pack:
        """Means of the variants as an array, of the references as JSON; losses by seed if known."""
        dimension = "seed" if len(self.baseline) == len(self.seeds) else "baseline_seed"
        variants = np.array(list(self.variants.values()), dtype=np.float64)
        arrays: Arrays = {
            "baseline": (self.baseline, (dimension,)),
            "variant_loss": (variants, ("variant",)),
        }
        for line, means in _LINES.items():
            losses = getattr(self, f"{line}_losses")
            if losses:
                unknown = (float("nan"),) * len(self.seeds)
                rows = [losses.get(name, unknown) for name in getattr(self, means)]
                arrays[f"{line}_losses"] = (np.array(rows, dtype=np.float64), (line, "seed"))
        if self.variant_differences:
            unknown = (float("nan"),) * len(_FROM_WHOLE)
            rows = [self.variant_differences.get(name, unknown) for name in self.variants]
            arrays["variant_differences"] = (np.array(rows, dtype=np.float64), ("variant", "end"))
        return arrays, {"variants": list(self.variants), "reference": dict(self.reference)}

    @classmethod
    def _unpack_more(
        cls, arrays: Mapping[str, Array], attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        losses = arrays["variant_loss"].tolist()
        found: dict[str, Any] = {
            "baseline": arrays["baseline"],
            "variants": dict(zip(attributes.get("variants", []), losses, strict=False)),
            "reference": attributes.get("reference", {}),
        }
        for line, means in _LINES.items():
            if f"{line}_losses" in arrays:
                rows = [tuple(row) for row in arrays[f"{line}_losses"].tolist()]
                found[f"{line}_losses"] = dict(zip(found[means], rows, strict=True))
        if "variant_differences" in arrays:
            rows = [tuple(row) for row in arrays["variant_differences"].tolist()]
            named = zip(found["variants"], rows, strict=True)
            found["variant_differences"] = {name: row for name, row in named if np.isfinite(row[0])}
        return found


def _row(kind: str, name: str, loss: float) -> Row:
    return {"kind": kind, "name": one_line(name), "layer": None, "seed": None, "loss": float(loss)}
