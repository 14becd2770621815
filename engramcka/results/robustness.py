"""Robustness: one pair of models compared in many ways, and what of the finding all of them say.

A way is a map: a measure, an estimator, a normalisation, with or without massive samples. Its
nearest depths and its soft alignment are put beside those of the others, the first of which is the
one that a paper would show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along, count
from engramcka.results.depth import NEAR
from engramcka.results.map import ALIGNMENT_K, SimilarityMap, grouped_warnings
from engramcka.results.statistics import Float

Bools = npt.NDArray[np.bool_]

_DIRECTIONS = {1: "deeper", -1: "shallower", 0: "no shift", None: "nothing"}


@dataclass(frozen=True, eq=False)
class Robustness(Result):
    """The alignment of x's layers with y's in several ways, the first the one to hold.

    Layers are block numbers, 0 the embedding. Intervals are 95 % ones, NaN where a map has none.
    """

    alignment: Float = field(metadata=along("way", "x_layer"))
    """(ways, x layers), soft alignment index, in y's layers; NaN where there is none."""
    alignment_low: Float = field(metadata=along("way", "x_layer"))
    alignment_high: Float = field(metadata=along("way", "x_layer"))
    depth: Float = field(metadata=along("way", "x_layer"))
    """(ways, x layers), the nearest layer of y."""
    depth_low: Float = field(metadata=along("way", "x_layer"))
    depth_high: Float = field(metadata=along("way", "x_layer"))
    determined: Float = field(metadata=along("way", "x_layer"))
    """(ways, x layers), 1 where one depth stands out, else 0."""
    shift: Float = field(metadata=along("way"))
    """(ways,), mean nearest depth less x's own, in `unit`; NaN where it is not determined."""
    shift_low: Float = field(metadata=along("way"))
    shift_high: Float = field(metadata=along("way"))
    x_layers: tuple[int, ...] = field(metadata=along("x_layer", name="x_layer"))
    ways: tuple[str, ...]  # what each is called
    maps: tuple[str, ...]  # KIND/NAME of the map of each
    measures: tuple[str, ...]  # of each, a name in engramcka.measures
    estimators: tuple[str, ...]  # of each; "" of measures that have none
    normalize: tuple[str, ...]  # of each: none | rms
    standardize: tuple[str, ...]  # of each: none | zscore | drop-massive
    massive: tuple[str, ...]  # of each, of massive samples: keep | drop
    samples: tuple[int, ...]  # compared by each; 0 where unknown
    y_label: str = "y"
    x_label: str = "x"
    y_blocks: int = 1  # the last layer of y that is compared
    unit: str = "layers"  # of the shift: layers | relative depth
    k: int = ALIGNMENT_K  # rows that the soft alignment averages
    layer: int | None = None  # of x, that the sentence speaks of
    where: str = ""  # which samples, as "kind = 'person'"; all of them if empty
    interval_over: str = ""  # what the intervals of the first way leave out
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_whole_numbers("x_layers", "samples")
        ways, layers = len(self.ways), len(self.x_layers)
        if ways < 1 or layers < 1:
            raise ComparisonError(f"{count(ways, 'way')} and {count(layers, 'layer')} of x")
        curves = ["alignment", "alignment_low", "alignment_high", "determined"]
        curves += ["depth", "depth_low", "depth_high"]
        self._set_floats(curves, (ways, layers), f"{{}} is ({ways} ways, {layers} layers of x)")
        self._set_floats(["shift", "shift_low", "shift_high"], (ways,), f"{{}} is of {ways} ways")
        if self.layer is not None and self.layer not in self.x_layers:
            raise ComparisonError(
                f"{one_line(self.x_label)} has no layer {self.layer}; there are "
                f"{self.x_layers[0]} to {self.x_layers[-1]}"
            )
        for name in ("maps", "measures", "estimators", "normalize", "standardize", "massive"):
            if len(getattr(self, name)) != ways:
                raise ComparisonError(f"{name} names {len(getattr(self, name))} of {ways} ways")

    @classmethod
    def of(
        cls,
        maps: Mapping[str, SimilarityMap],
        names: Sequence[str] = (),
        massive: Sequence[str] = (),
        layer: int | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Robustness:
        """The ways that these maps are.

        Args:
            maps: of one pair of models, by what each way is called; the first is the one that the
                others are compared with.
            names: KIND/NAME of each map in a run; "" if left out.
            massive: of each, whether massive samples were asked to be left out: keep | drop; if
                left out, whether any was.
            layer: of x, that the sentence is to speak of.
            provenance: JSON.

        Raises:
            ComparisonError: the maps are of other models or layers, or have no such layer.
        """
        found = list(maps.values())
        if not found:
            raise ComparisonError("robustness is of at least one map")
        first = found[0]
        for name, one in maps.items():
            for what in ("y_label", "x_label", "y_layers", "x_layers"):
                if getattr(one, what) != getattr(first, what):
                    raise ComparisonError(
                        f"{name} has {what} {getattr(one, what)}, {next(iter(maps))} "
                        f"{getattr(first, what)}; ways compare the same layers of the same models"
                    )
        shifts = [one.depth_shift() for one in found]
        y_blocks = max(first.y_layers)
        scale = 1.0 if shifts[0].unit == "layers" else float(y_blocks)
        nothing = np.full(len(first.x_layers), np.nan)
        ends = [one.soft_alignment_interval() or (nothing, nothing) for one in found]
        return cls(
            alignment=np.stack([one.soft_alignment() for one in found]),
            alignment_low=np.stack([low for low, _ in ends]),
            alignment_high=np.stack([high for _, high in ends]),
            depth=np.stack([scale * shift.depth for shift in shifts]),
            depth_low=np.stack([scale * shift.depth_low for shift in shifts]),
            depth_high=np.stack([scale * shift.depth_high for shift in shifts]),
            determined=np.stack([shift.determined.astype(np.float64) for shift in shifts]),
            shift=np.array([shift.shift for shift in shifts]),
            shift_low=np.array([shift.shift_low for shift in shifts]),
            shift_high=np.array([shift.shift_high for shift in shifts]),
            x_layers=first.x_layers,
            ways=tuple(maps),
            maps=tuple(names) or ("",) * len(found),
            measures=tuple(one.measure for one in found),
            estimators=tuple(getattr(one, "estimator", "") for one in found),
            normalize=tuple(one.normalize for one in found),
            standardize=tuple(one.standardize for one in found),
            massive=tuple(massive)
            or tuple("drop" if one.n_massive_dropped else "keep" for one in found),
            samples=tuple(one.n_samples or 0 for one in found),
            y_label=first.y_label,
            x_label=first.x_label,
            y_blocks=y_blocks,
            unit=shifts[0].unit,
            layer=layer,
            where=first.where,
            interval_over=first.interval_over,
            warnings=grouped_warnings(
                {name: one.warnings for name, one in maps.items()}, "every way"
            ),
            provenance=dict(provenance or {}),
        )

    @property
    def near(self) -> float:
        """Layers of y by which two nearest layers may differ and be the same: as in a map, where
        such rows do not compete."""
        return max(1.0, NEAR * self.y_blocks)

    @property
    def directions(self) -> list[int | None]:
        """Of each way 1 where x's layers are like deeper ones of y, -1 where like shallower ones,
        0 where the shift's interval holds 0; None where there is no shift, or no interval."""
        found: list[int | None] = []
        for low, high in zip(self.shift_low, self.shift_high, strict=True):
            known = np.isfinite(low) and np.isfinite(high)
            found.append(int(low > 0) - int(high < 0) if known else None)
        return found

    def known_layers(self, way: int) -> tuple[int, int]:
        """Layers of x whose nearest layer a way determines, and layers that have any."""
        return int(self.determined[way].sum()), int(np.isfinite(self.depth[way]).sum())

    @property
    def both_determined(self) -> Bools:
        """(ways, x layers) where the way and the first one both determine the nearest layer."""
        return np.asarray((self.determined > 0) & (self.determined[0] > 0))

    @property
    def same(self) -> Bools:
        """(ways, x layers) where both determine it and it is the same to within `near`."""
        with np.errstate(invalid="ignore"):
            near = abs(self.depth - self.depth[0]) <= self.near
        return np.asarray(self.both_determined & near)

    @property
    def kept(self) -> tuple[int, int]:
        """Layers of x whose nearest layer is the first way's in every other way that determines
        it, at least one, and layers that there are to ask."""
        others, same = self.both_determined[1:], self.same[1:]
        asked = others.any(axis=0)
        return int((asked & (same | ~others).all(axis=0)).sum()), int(asked.sum())

    def rows(self) -> Iterator[Row]:
        """One a way and layer of x."""
        for way, name in enumerate(self.ways):
            facts = {
                "way": one_line(name), "measure": self.measures[way],
                "estimator": self.estimators[way] or None, "normalize": self.normalize[way],
                "standardize": self.standardize[way], "massive": self.massive[way],
                "samples": self.samples[way] or None, "shift": float(self.shift[way]),
                "shift_low": float(self.shift_low[way]), "shift_high": float(self.shift_high[way]),
            }  # fmt: skip
            for index, layer in enumerate(self.x_layers):
                curves = {
                    name: float(getattr(self, name)[way, index])
                    for name in ("alignment", "alignment_low", "alignment_high",
                                 "depth", "depth_low", "depth_high")
                }  # fmt: skip
                yield {**facts, "x_layer": layer, **curves,
                       "determined": bool(self.determined[way, index])}  # fmt: skip

    def summary(self) -> str:
        """The headline of the first way, its range over all, and what survives."""
        parts = [self._shift_part(), self._kept_part()]
        if self.layer is not None:
            parts.append(self.layer_sentence(self.x_layers.index(self.layer)))
        sides = f"{one_line(self.x_label)} on {one_line(self.y_label)}"
        where = f" where {one_line(self.where)}" if self.where else ""
        return f"{sides}{where}, {count(len(self.ways), 'way')}: {'; '.join(parts)}"

    def size(self) -> str:
        """Its ways and layers."""
        return f"{count(len(self.ways), 'way')}  {count(len(self.x_layers), 'layer')}"

    def shift_text(self, way: int) -> str:
        """A way's shift with unit and interval; "not determined" where there is none."""
        return f"{shift_text(self.shift[way])}{self._unit}" + ends_text(
            self.shift_low[way], self.shift_high[way], shift_text
        )

    @property
    def _unit(self) -> str:
        return " layers" if self.unit == "layers" else " of the depth"

    def _shift_part(self) -> str:
        """The shift in the first way, its range, and how many ways say the same of its sign."""
        there = self.shift[np.isfinite(self.shift)]
        first = one_line(self.ways[0])
        if np.isfinite(self.shift[0]):
            text = f"nearest depth {self.shift_text(0)} by {first}{self._range(there, shift_text)}"
        else:
            text = f"nearest depth not determined by {first}"
            text += f", {self._span(there, shift_text)}{self._unit} by" if len(there) else ""
            text += f" {count(len(there), 'other')}" if len(there) else ""
        verdict = self.verdict()
        return f"{text}; {verdict}" if verdict else text

    def counts(self) -> list[tuple[str, int]]:
        """What ways say of the shift's sign, and how many each: what the first says first, then by
        number; "nothing" last, and alone it is no list at all."""
        counted = Counter(self.directions)
        own = self.directions[0]

        def place(one: int | None) -> tuple[bool, bool, int]:
            return one is None, one != own, -counted[one]

        order = sorted(counted, key=place)
        return [] if order[0] is None else [(_DIRECTIONS[one], counted[one]) for one in order]

    def verdict(self) -> str:
        """The same in words; "" where no way says anything."""
        words = [f"{number} {said}" for said, number in self.counts()]
        if not words:
            return ""
        first = words[0].replace(" ", f" of {count(len(self.ways), 'way')} say ", 1)
        return ", ".join([first, *words[1:]])

    def _range(self, values: Float, text: Callable[[float], str]) -> str:
        """From which to which value all ways go that have one."""
        if len(values) < 2:
            return ""
        span = self._span(values, text)
        return f", {span if ' to ' in span else 'the same'} over {len(values)} ways"

    def _span(self, values: Float, text: Callable[[float], str]) -> str:
        low, high = text(values.min()), text(values.max())
        return low if low == high else f"{low} to {high}"

    def _kept_part(self) -> str:
        kept, asked = self.kept
        first, layers = one_line(self.ways[0]), count(len(self.x_layers), "layer")
        if not asked:
            return f"none of {layers} has a nearest one by {first} and another way"
        within = "one layer" if self.near == 1 else f"{self.near:.2g} layers"
        return (
            f"{asked} of {layers} have a nearest one by {first} and another way, and {kept} of "
            f"them keep it (to within {within}) in every way that determines it"
        )

    def layer_sentence(self, index: int) -> str:
        """Which layer of y one layer of x is like by the first way, with the range over all."""
        y, x, first = (one_line(name) for name in (self.y_label, self.x_label, self.ways[0]))
        text = f"layer {self.x_layers[index]} of {x} is "
        known = np.flatnonzero(self.determined[:, index] > 0)
        depth = self.depth[:, index]
        if self.determined[0, index]:
            ends = ends_text(self.depth_low[0, index], self.depth_high[0, index], layer_text)
            text += f"nearest layer {layer_text(depth[0])} of {y} by {first}{ends}"
        else:
            text += f"not nearest one layer of {y} by {first}"
        text += self._range(depth[known], layer_text)
        aligned = self.alignment[:, index]
        there = aligned[np.isfinite(aligned)]
        if np.isfinite(aligned[0]):
            ends = ends_text(self.alignment_low[0, index], self.alignment_high[0, index], tenths)
            text += f"; soft alignment (k = {self.k}) {tenths(aligned[0])}{ends}"
            text += self._range(there, tenths)
        return text


def shift_text(value: float) -> str:
    """A shift with its sign; no negative zero."""
    return f"{round(value, 2) + 0.0:+.2f}" if np.isfinite(value) else "not determined"


def layer_text(value: float) -> str:
    """A layer, with a decimal where it is between two."""
    return f"{round(value, 1) + 0.0:g}"


def tenths(value: float) -> str:
    """With one decimal."""
    return f"{value:.1f}"


def ends_text(low: float, high: float, text: Callable[[float], str]) -> str:
    """An interval in brackets, "" where there is none."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return ""
    return f" (95 % {text(low)} to {text(high)})"
