"""``[[robustness]]``: one pair of models compared in many ways, and what all of them say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from engramcka.config.analysis_tables import Where
from engramcka.config.map_tables import ComparisonTable, MapTable
from engramcka.config.tables import Name, Table
from engramcka.measures import MEASURES, NEIGHBOURS, MeasureName, takes

Changes = dict[str, str]  # option of a map -> its value, of those that ways differ in

_USUAL = {"estimator": "minibatch", "normalize": "none", "standardize": "none", "massive": "keep"}
_WORDS = {
    ("normalize", "none"): "not normalised",
    ("normalize", "rms"): "RMS-normalised",
    ("standardize", "none"): "not standardised",
    ("standardize", "zscore"): "z-scored",
    ("standardize", "drop-massive"): "no massive dimensions",
    ("massive", "keep"): "all samples",
    ("massive", "drop"): "no massive samples",
}


@dataclass(frozen=True)
class Way:
    """One way of comparing the two models: what it is called, and its map."""

    title: str
    changes: Changes
    table: ComparisonTable
    map: str  # name of its map


class RobustnessTable(Table):
    """``[[robustness]]``: does what a map says hold by other measures, estimators and samples?"""

    name: Name | None = Field(
        None, description="makes the result robustness/NAME; if left out X-vs-Y"
    )
    y: str = Field(description="model on the rows")
    x: str = Field(description="model on the columns; each of its layers is a point of the curves")
    measures: tuple[MeasureName, ...] = Field(
        get_args(MeasureName),
        min_length=1,
        description="measures (docs/measures.md); the first value of each list makes the way that "
        "the others are compared with",
    )
    estimators: tuple[Literal["minibatch", "debiased", "biased"], ...] = Field(
        ("minibatch", "debiased", "biased"), min_length=1, description="of cka"
    )
    normalize: tuple[Literal["none", "rms"], ...] = Field(
        ("none", "rms"), min_length=1, description="as in `[[cka]]`"
    )
    standardize: tuple[Literal["none", "zscore", "drop-massive"], ...] = Field(
        ("none", "zscore", "drop-massive"), min_length=1, description="as in `[[cka]]`"
    )
    massive: tuple[Literal["keep", "drop"], ...] = Field(
        ("keep", "drop"), min_length=1, description="as in `[[cka]]`"
    )
    combine: Literal["one-at-a-time", "all"] = Field(
        "one-at-a-time",
        description="each value with the first ones of the other lists; or all with one another",
    )
    layer: int | None = Field(
        None, ge=0, description="layer of x whose nearest layer of y the headline says too"
    )
    batch_size: int = Field(1024, ge=4, description="of the minibatch estimator, as in `[[cka]]`")
    pairs: Literal["across-documents", "all"] = Field(
        "across-documents", description="pairs of samples that count, as in `[[cka]]`"
    )
    nonfinite: Literal["error", "drop"] = Field("error", description="as in `[[cka]]`")
    k: int = Field(NEIGHBOURS, ge=1, description="neighbours of mutual-knn and cknna")
    where: Where = Field({}, description="which samples, as in `[[cka]]`")

    @property
    def result_name(self) -> str:
        """Its own name, or that of the pair."""
        return self.name or f"{self.x}-vs-{self.y}"

    @property
    def ways(self) -> list[Way]:
        """All ways of comparing, the one that the others are compared with first."""
        found: dict[str, Way] = {}
        for changes in self._changes():
            title, key = self._title(changes), self._key(changes)
            table = self._table(changes, key)
            found.setdefault(key, Way(title, changes, table, str(table.name)))
        return list(found.values())

    @property
    def _lists(self) -> dict[str, tuple[str, ...]]:
        """The option of a map -> values that it takes."""
        names = {"measure": "measures", "estimator": "estimators"}
        options = ("estimator", "normalize", "standardize", "massive", "measure")
        return {option: getattr(self, names.get(option, option)) for option in options}

    def _changes(self) -> Iterator[Changes]:
        lists = self._lists
        if self.combine == "all":
            # Measures one after the other, each with all its variants.
            order = ("measure", "estimator", "normalize", "standardize", "massive")
            for values in product(*(lists[option] for option in order)):
                yield self._meaningful(dict(zip(order, values, strict=True)))
            return
        first = {option: values[0] for option, values in lists.items()}
        yield self._meaningful(first)
        for option, values in lists.items():
            for value in values[1:]:
                if option != "estimator" or first["measure"] == "cka":
                    yield self._meaningful({**first, option: value})
        if first["measure"] != "cka" and "cka" in self.measures:
            for value in self.estimators[1:]:
                yield {**first, "measure": "cka", "estimator": value}

    def _meaningful(self, changes: Changes) -> Changes:
        """Without an estimator where the measure has none; the RBF kernel has one alone."""
        measure = changes["measure"]
        if measure == "cka":
            return changes
        rest = {option: value for option, value in changes.items() if option != "estimator"}
        return {**rest, "estimator": "minibatch"} if takes(measure, "estimator") else rest

    def _title(self, changes: Changes) -> str:
        """The measure and what differs from the first way; of the first what is not the usual."""
        words = [MEASURES[changes["measure"]].title]
        is_first = changes["measure"] == self.measures[0] and not any(
            self._is_changed(changes, option) for option in _USUAL if option in changes
        )
        for option, usual in _USUAL.items():
            value = changes.get(option, usual)
            is_changed = option in changes and self._is_changed(changes, option)
            if is_changed or (is_first and value != usual):
                words.append(_WORDS.get((option, value), value))
        return ", ".join(words)

    def _is_changed(self, changes: Changes, option: str) -> bool:
        """Whether an option has not the first value of its list."""
        kernel = option == "estimator" and changes["measure"] != "cka"
        return not kernel and changes[option] != self._lists[option][0]

    def _key(self, changes: Changes) -> str:
        """What a way is called in the name of its map."""
        parts = [
            f"{option}-{changes[option]}"
            for option in _USUAL
            if option in changes and self._is_changed(changes, option)
        ]
        return ".".join([changes["measure"], *parts])

    def _table(self, changes: Changes, key: str) -> MapTable:
        own = {"batch_size": self.batch_size, "pairs": self.pairs, "k": self.k}
        values: dict[str, Any] = {
            "name": f"{self.result_name}.by-{key}",
            **{side: getattr(self, side) for side in ("y", "x", "nonfinite", "where")},
            **{option: value for option, value in own.items() if takes(changes["measure"], option)},
            **changes,
        }
        return MapTable(**values).made_for(f"robustness/{self.result_name}")

    @model_validator(mode="after")
    def _has_ways(self) -> RobustnessTable:
        for option, values in self._lists.items():
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{twice!r} is there twice among the values of {option}")
        if len(self.ways) < 2:
            raise ValueError(
                "the lists leave one way of comparing: that is a map; give measures, estimators, "
                "normalize, standardize or massive more values"
            )
        return self
