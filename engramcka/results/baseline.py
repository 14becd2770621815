"""Baselines: how much of a map is there without training, without context, or with another seed.

A map stands beside others of the same layers, made of the same samples in the same way: of models
with random weights, of text whose words are shuffled, of the tokens alone. What the map has above
them is what a reader may put down to what the models learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engramcka.errors import ComparisonError
from engramcka.measures import MEASURES
from engramcka.plain_text import one_line
from engramcka.results.base import Result, Row, along, count
from engramcka.results.map import SimilarityMap, grouped_warnings
from engramcka.results.statistics import (
    Float,
    jackknife_error,
    jackknife_interval,
    known_cells,
    mean_finite,
    student_quantile,
)

OWN = "this map"  # what the map itself is called among its baselines

_MAP = ("map", "y_layer", "x_layer")


@dataclass(frozen=True, eq=False)
class Baseline(Result):
    """A map, the first, and its baselines; layers are block numbers, 0 the embedding.

    Intervals are 95 % ones over documents, NaN where a map has none.
    """

    similarity: Float = field(metadata=along(*_MAP))  # (maps, y layers, x layers)
    best: Float = field(metadata=along("map", "x_layer"))
    """(maps, x layers), similarity with the most similar layer of y; NaN where there is none."""
    best_low: Float = field(metadata=along("map", "x_layer"))
    best_high: Float = field(metadata=along("map", "x_layer"))
    mean: Float = field(metadata=along("map"))  # (maps,), of all cells
    mean_low: Float = field(metadata=along("map"))
    mean_high: Float = field(metadata=along("map"))
    above: Float = field(metadata=along("map"))
    """(maps,), mean of the map less that of each, over the cells that both have; 0 of the first."""
    above_low: Float = field(metadata=along("map"))
    above_high: Float = field(metadata=along("map"))
    correlation: Float = field(metadata=along("map"))
    """(maps,), Pearson's over those cells; 1 of the first, NaN of one that is the same all over."""
    y_layers: tuple[int, ...] = field(metadata=along("y_layer", name="y_layer"))
    x_layers: tuple[int, ...] = field(metadata=along("x_layer", name="x_layer"))
    titles: tuple[str, ...]  # what each is called, the first `OWN`
    maps: tuple[str, ...]  # KIND/NAME of each in its run; "" of one that is a part of the first
    samples: tuple[int, ...]  # compared in each; 0 where unknown
    measure: str = "unknown"  # a name in engramcka.measures
    y_label: str = "y"
    x_label: str = "x"
    where: str = ""  # which samples, as "kind = 'person'"; all of them if empty
    interval_over: str = ""  # what the intervals of the first leave out
    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._set_whole_numbers("y_layers", "x_layers", "samples")
        maps, ys, xs = len(self.titles), len(self.y_layers), len(self.x_layers)
        if maps < 2 or not ys or not xs:
            raise ComparisonError(f"{count(maps, 'map')} of {ys} x {xs} layers are no baseline")
        if len({*self.titles, "y_layer", "x_layer"}) < maps + 2:
            raise ComparisonError("two maps, or a map and a column of layers, have one title")
        self._set_floats(["similarity"], (maps, ys, xs), f"{{}} is ({maps}, {ys}, {xs})")
        curves = ["best", "best_low", "best_high"]
        self._set_floats(curves, (maps, xs), f"{{}} is ({maps} maps, {xs} layers of x)")
        numbers = ["correlation"]
        numbers += [f"{name}{end}" for name in ("mean", "above") for end in ("", "_low", "_high")]
        self._set_floats(numbers, (maps,), f"{{}} is of {maps} maps")
        if any(np.isinf(getattr(self, name)).any() for name in ("similarity", *curves, *numbers)):
            raise ComparisonError("a map or a number of it is infinite")
        for name in ("maps", "samples"):
            if len(getattr(self, name)) != maps:
                raise ComparisonError(f"{name} names {len(getattr(self, name))} of {maps} maps")

    @classmethod
    def of(
        cls,
        own: SimilarityMap,
        baselines: Mapping[str, SimilarityMap],
        names: Sequence[str] = (),
        tokens: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> Baseline:
        """A map with its baselines.

        Args:
            own: the map.
            baselines: what each is called -> its map, of as many layers.
            names: KIND/NAME of the map and then of each baseline; "" if left out.
            tokens: what layer 0 of both models is called, where it is a baseline too; the map
                must have it.
            provenance: JSON.

        Raises:
            ComparisonError: a baseline is of other layers or another measure, there is none, or
                layer 0 is not in the map.
        """
        for title, one in baselines.items():
            for what in ("y_layers", "x_layers", "measure"):
                if getattr(one, what) != getattr(own, what):
                    raise ComparisonError(
                        f"{title} has {what} {getattr(one, what)}, the map {getattr(own, what)}; a "
                        "baseline is of the same layers"
                    )
        titles = [OWN, *baselines]
        parts = [_Part.of(one) for one in (own, *baselines.values())]
        said = {title: one.warnings for title, one in {OWN: own, **baselines}.items()}
        called = list(names) or [""] * len(titles)
        if tokens:
            if 0 not in own.y_layers or 0 not in own.x_layers:
                raise ComparisonError("layer 0 of both models is wanted, and the map has it not")
            titles.append(tokens)
            called.append("")
            parts.append(parts[0].cell(own.y_layers.index(0), own.x_layers.index(0)))
        above = [parts[0].above(part) for part in parts]
        means, bests = ([getattr(part, what)() for part in parts] for what in ("mean", "best"))
        return cls(
            similarity=np.stack([part.similarity for part in parts]),
            **_columns("best", bests),
            **_columns("mean", means),
            **_columns("above", above),
            correlation=np.array([_correlation(parts[0], part) for part in parts]),
            y_layers=own.y_layers,
            x_layers=own.x_layers,
            titles=tuple(titles),
            maps=tuple(called),
            samples=tuple(part.count for part in parts),
            measure=own.measure,
            y_label=own.y_label,
            x_label=own.x_label,
            where=own.where,
            interval_over=own.interval_over,
            warnings=(*_other_cells(titles, parts), *grouped_warnings(said, "every map")),
            provenance=dict(provenance or {}),
        )

    @property
    def title(self) -> str:
        """What its values are."""
        known = MEASURES.get(self.measure)
        if known is None:
            return "Similarity"
        return "CKA" if known.is_cka else known.title

    def rows(self) -> Iterator[Row]:
        """One a cell, with its value in the map and in each baseline."""
        for i, y in enumerate(self.y_layers):
            for j, x in enumerate(self.x_layers):
                cells = self.similarity[:, i, j].tolist()
                yield {"y_layer": y, "x_layer": x, **dict(zip(self.titles, cells, strict=True))}

    def summary(self) -> str:
        """The mean of the map, and of each baseline with how far the map is above it."""
        sides = f"{one_line(self.y_label)} x {one_line(self.x_label)}"
        where = f" where {one_line(self.where)}" if self.where else ""
        own = f"{sides}{where}, mean {self.title} {_text(*_of(self, 'mean', 0))}"
        return "; ".join([own, *(self.sentence(at) for at in range(1, len(self.titles)))])

    def sentence(self, at: int) -> str:
        """What a baseline says: its mean, how far the map is above it, and how alike they are."""
        text = f"{one_line(self.titles[at])} {_text(*_of(self, 'mean', at))}"
        if 0 < self.samples[at] != self.samples[0] > 0:
            text += f" on {self.samples[at]:,} samples"
        value, low, high = _of(self, "above", at)
        if round(value, 3) < 0:
            text += f", more than the map by {_text(-value, -high, -low)}"
        elif np.isfinite(value):
            text += f", less than the map by {_text(value, low, high)}"
        if np.isfinite(self.correlation[at]):
            text += f", cells correlate by {self.correlation[at]:.2f}"
        return text

    def size(self) -> str:
        """Its layers and how many baselines it has."""
        rows, columns = self.similarity.shape[1:]
        return f"{rows} x {columns}  {count(len(self.titles) - 1, 'baseline')}"


@dataclass(frozen=True)
class _Part:
    """A map with its replicates: (y layers, x layers), and (groups, y layers, x layers)."""

    similarity: Float
    jackknife: Float | None
    count: int  # samples compared; 0 where unknown
    samples: str  # fingerprint of those; "" where it is not known

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """(y layers, x layers) whether a cell has a value, over all groups and without each."""
        return known_cells(self.similarity, self.jackknife)

    @classmethod
    def of(cls, one: SimilarityMap) -> _Part:
        there = one.jackknife is not None and len(one.jackknife) > 1
        jackknife = one.jackknife if there else None
        return cls(one.similarity, jackknife, one.n_samples or 0, one.compared)

    def cell(self, i: int, j: int) -> _Part:
        """One that is everywhere as this one is in a cell."""
        similarity = np.full_like(self.similarity, self.similarity[i, j])
        if self.jackknife is None:
            return replace(self, similarity=similarity)
        same = np.broadcast_to(self.jackknife[:, i : i + 1, j : j + 1], self.jackknife.shape)
        return replace(self, similarity=similarity, jackknife=np.array(same))

    def mean(self) -> tuple[Float, Float, Float]:
        """Of all known cells, with its interval."""
        return self._with_interval(lambda cells: _mean(np.where(self.known, cells, np.nan)))

    def best(self) -> tuple[Float, Float, Float]:
        """(x layers,) of the most similar row of each column, with the interval of that cell."""
        shown = np.where(np.isfinite(self.similarity), self.similarity, -np.inf)
        rows = np.argmax(shown, axis=0)[None]
        return self._with_interval(
            lambda cells: np.take_along_axis(
                cells, np.broadcast_to(rows, (*cells.shape[:-2], *rows.shape)), axis=-2
            )[..., 0, :]
        )

    def above(self, other: _Part) -> tuple[Float, Float, Float]:
        """Mean difference from another map over the cells that both have, with its interval.

        Replicates of the same samples are paired. Where the samples differ, or are not known to be
        the same, the errors of both are added: the difference has no larger one, however the two
        hang together.
        """
        both = self.known & other.known

        def mean(cells: Float) -> Float:
            return _mean(np.where(both, cells, np.nan))

        difference = mean(self.similarity) - mean(other.similarity)
        nothing = np.full_like(difference, np.nan)
        if self.jackknife is None or other.jackknife is None:
            return difference, nothing, nothing
        if self.samples and self.samples == other.samples:
            replicates = mean(self.jackknife) - mean(other.jackknife)
            return difference, *jackknife_interval(difference, replicates)
        errors = [jackknife_error(mean(one)) for one in (self.jackknife, other.jackknife)]
        groups = min(len(self.jackknife), len(other.jackknife))
        half = student_quantile(groups - 1) * (errors[0] + errors[1])
        return difference, difference - half, difference + half

    def _with_interval(self, read: Any) -> tuple[Float, Float, Float]:
        value = np.asarray(read(self.similarity))
        if self.jackknife is None:
            nothing = np.full_like(value, np.nan)
            return value, nothing, nothing
        return value, *jackknife_interval(value, read(self.jackknife))


def _other_cells(titles: Sequence[str], parts: Sequence[_Part]) -> Iterator[str]:
    """The baselines whose own mean is of other cells than the map's, a sentence each."""
    for title, part in zip(titles, parts, strict=True):
        if lost := int((np.isfinite(part.similarity) & ~part.known).sum()):
            yield (
                f"{title}: {count(lost, 'cell')} without a value when some documents are left out; "
                "not in its mean"
            )
        if alone := int((parts[0].known ^ part.known).sum()):
            yield (
                f"{title}: {count(alone, 'cell')} with a value in it or in this map alone; each "
                "mean is over its own cells, the difference over those of both"
            )


def _mean(cells: Float) -> Float:
    """Mean over the finite cells of maps of any leading shape."""
    return mean_finite(cells.reshape(*cells.shape[:-2], -1))


def _correlation(one: _Part, other: _Part) -> float:
    """Pearson's over the cells that both have; NaN where one of them does not vary."""
    both = np.isfinite(one.similarity) & np.isfinite(other.similarity)
    a, b = one.similarity[both], other.similarity[both]
    if len(a) < 2 or not np.ptp(a) or not np.ptp(b):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _columns(name: str, found: Sequence[tuple[Float, Float, Float]]) -> dict[str, Float]:
    """Values and both ends of several parts, as the fields of that name."""
    stacked = [np.stack(one) for one in zip(*found, strict=True)]
    return dict(zip((name, f"{name}_low", f"{name}_high"), stacked, strict=True))


def _of(found: Baseline, name: str, at: int) -> tuple[float, float, float]:
    """A number of one map and both ends of its interval."""
    value, low, high = (float(getattr(found, f"{name}{end}")[at]) for end in ("", "_low", "_high"))
    return value, low, high


def _text(value: float, low: float, high: float) -> str:
    """A number with its interval where it has one."""
    if not np.isfinite(value):
        return "not known"
    value, low, high = (round(one, 3) + 0.0 for one in (value, low, high))  # no negative zero
    ends = f" (95 % {low:.3f} to {high:.3f})" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{value:.3f}{ends}"
