"""``[[cka]]`` and ``[[map]]``: every layer of one model against every layer of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from engramcka.config.analysis_tables import Where, where_text
from engramcka.config.tables import Name, Table
from engramcka.measures import MEASURES, NEIGHBOURS, VARIANCE, MeasureName, takes

_KEYS = ("estimator", "batch_size", "batches", "pairs", "k", "variance")  # of some measures


@dataclass(frozen=True)
class MapOf:
    """A map of two models: what it is called, and the models on its rows and columns."""

    name: str
    y: str
    x: str


class ComparisonTable(Table):
    """What ``[[cka]]`` and ``[[map]]`` share."""

    name: Name | None = Field(
        None,
        description="name of the map; if left out X-vs-Y of cka, X-vs-Y.MEASURE of other measures; "
        "where y or x is a list, makes the maps X-vs-Y.NAME",
    )
    y: str | tuple[str, ...] | None = Field(
        None,
        description="model on the rows, or several: each of y with each of x, a pair once and no "
        "model with itself; if left out, those of x with one another",
    )
    x: str | tuple[str, ...] = Field(description="model on the columns, or several")
    estimator: Literal["minibatch", "debiased", "biased"] = Field(
        "minibatch", description="minibatch is the paper's; debiased is exact over all samples"
    )
    batch_size: int = Field(
        1024, ge=4, description="samples a batch of the minibatch estimator at most"
    )
    batches: Literal["random", "in-order"] = Field(
        "random",
        description="of the minibatch estimator: drawn from `run.seed`, or neighbouring samples as "
        "other packages take them, which is right for shuffled samples only",
    )
    pairs: Literal["across-documents", "all"] = Field(
        "across-documents",
        description="pairs of samples that count: of different documents, or all; pairs of one "
        "document are alike because the text is. biased counts all",
    )
    normalize: Literal["none", "rms"] = Field(
        "none",
        description="rms: each sample divided by its root mean square, which is what the next "
        "block reads; before any standardisation",
    )
    standardize: Literal["none", "zscore", "drop-massive"] = Field(
        "none", description="zscore every dimension, or drop those of massive activations"
    )
    nonfinite: Literal["error", "drop"] = Field(
        "error", description="samples with NaN or infinity: an error, or dropped from both models"
    )
    massive: Literal["keep", "drop"] = Field(
        "keep",
        description="samples over 10 times as far from the centre of a layer as its median sample: "
        "kept with a warning, or dropped from both models",
    )
    permutations: int = Field(
        0,
        ge=0,
        description="shuffles of one side's documents for the null distribution; 0 for none",
    )
    baselines: tuple[str, ...] = Field(
        (),
        description="maps beside it that say how much of it is there without (docs/baselines.md): "
        "untrained (random weights), shuffled-text (words in a random order), tokens (layer 0 of "
        "both), or the name of a model that y is compared with, as y from another seed",
    )
    where: Where = Field(
        {},
        description="which samples, by columns of the sample table: "
        '`{ kind = "person" }`, `{ kind = ["art", "event"] }` for one of several, '
        '`{ kind = { not = "other" } }`; several columns must all fit; all samples if empty',
    )

    _part_of: str = PrivateAttr("")

    @property
    def measured_by(self) -> str:
        """What the map holds, a name in `MEASURES`."""
        raise NotImplementedError

    @property
    def part_of(self) -> str:
        """KIND/NAME of the result that its map is made for; "" for a map of its own."""
        return self._part_of

    def made_for(self, result: str) -> Self:
        """Itself as the table of a map that is made for a result, KIND/NAME."""
        found = self.model_copy()
        found._part_of = result
        return found

    def key_of(self, side: Literal["y", "x"]) -> str:
        """The key of the config's table that names the models of a side."""
        return side

    @property
    def kind(self) -> Literal["cka", "map"]:
        """The kind of result that it makes."""
        return "cka" if MEASURES[self.measured_by].is_cka else "map"

    @property
    def options(self) -> dict[str, Any]:
        """How a map is made, as `similarity_map` takes it; but for the samples."""
        return self.model_dump(mode="json", exclude={"name", "y", "x", "where", "baselines"})

    @property
    def inputs(self) -> dict[str, Any]:
        """What of the table decides a map's values."""
        return {**self.options, "where": where_text(self.where)}

    @property
    def maps(self) -> list[MapOf]:
        """The maps of the table, in the order of y and then of x.

        Of lists every pair is one map, with the model that comes first on the rows; a model of a
        list is not compared with itself.
        """
        of_measure = self._default_suffix
        if isinstance(self.y, str) and isinstance(self.x, str):
            name = self.name or f"{self.x}-vs-{self.y}{of_measure}"
            return [MapOf(name, self.y, self.x)]
        suffix = f".{self.name}" if self.name else of_measure
        pairs: dict[frozenset[str], MapOf] = {}
        for y in self.models("y"):
            for x in self.models("x"):
                if y != x:
                    pairs.setdefault(frozenset((y, x)), MapOf(f"{x}-vs-{y}{suffix}", y, x))
        return list(pairs.values())

    @property
    def _default_suffix(self) -> str:
        """Behind the models in the name of a map that has no name of its own."""
        return ""

    def models(self, side: Literal["y", "x"]) -> tuple[str, ...]:
        """The models of one side, as a list in any case."""
        found = self.x if side == "x" or self.y is None else self.y
        return (found,) if isinstance(found, str) else found

    @model_validator(mode="after")
    def _has_pairs(self) -> ComparisonTable:
        if self.y is None and isinstance(self.x, str):
            raise ValueError(
                f"y is missing, and x = {self.x!r} is one model; y is the model on the rows, or "
                'left out where x lists several: x = ["a", "b", "c"] makes every pair of them'
            )
        if not self.maps:
            raise ValueError(
                f"y = {list(self.models('y'))} and x = {list(self.models('x'))} leave no pair of "
                "two models"
            )
        return self


class CkaTable(ComparisonTable):
    """``[[cka]]``: a map of each layer of ``y`` (rows) against each layer of ``x`` (columns)."""

    kernel: Literal["linear", "rbf"] = Field(
        "linear", description="rbf takes the median distance as its width; minibatch only"
    )

    @property
    def measured_by(self) -> str:
        """CKA, with its kernel."""
        return "cka" if self.kernel == "linear" else f"cka-{self.kernel}"

    @model_validator(mode="after")
    def _has_kernel(self) -> CkaTable:
        if self.kernel == "rbf" and self.estimator != "minibatch":
            raise ValueError(
                f"kernel = 'rbf' needs estimator = 'minibatch', found {self.estimator!r}"
            )
        return self


class MapTable(ComparisonTable):
    """``[[map]]``: a map by any measure; ``[[cka]]`` is the short form of ``measure = "cka"``."""

    measure: MeasureName = Field(
        description="what two layers are compared by (docs/measures.md). estimator, batch_size "
        "and batches are of cka and cka-rbf; pairs of these, rsa, mutual-knn and cknna"
    )
    k: int = Field(
        NEIGHBOURS, ge=1, description="nearest neighbours of a sample; of mutual-knn and cknna"
    )
    variance: float | None = Field(
        None,
        gt=0,
        le=1,
        description="of svcca and pwcca: share of a layer's variance that the principal components "
        "compared hold, at most a tenth as many as samples; if left out, 0.99 of svcca, 1 of pwcca",
    )

    @property
    def measured_by(self) -> str:
        """The measure asked for."""
        return self.measure

    @property
    def _default_suffix(self) -> str:
        return "" if self.measure == "cka" else f".{self.measure}"

    @property
    def foreign(self) -> list[str]:
        """The keys that its measure has no use for."""
        return [key for key in _KEYS if not takes(self.measure, key)]

    @property
    def options(self) -> dict[str, Any]:
        """How a map is made; of CKA as ``[[cka]]`` says it, so that either table makes one map."""
        found = {key: value for key, value in super().options.items() if key not in self.foreign}
        if self.kind == "cka":
            del found["measure"]
            found["kernel"] = "linear" if self.measure == "cka" else "rbf"
        elif takes(self.measure, "variance") and self.variance is None:
            found["variance"] = VARIANCE[self.measure]
        return found

    @model_validator(mode="after")
    def _has_keys_of_its_measure(self) -> MapTable:
        for key in self.foreign:
            if key in self.model_fields_set:
                of = [one for one in MEASURES if takes(one, key)]
                raise ValueError(
                    f"{key} with measure = {self.measure!r}; it belongs to {', '.join(of)}"
                )
        if self.measure == "cka-rbf" and self.estimator != "minibatch":
            raise ValueError(
                f"measure = 'cka-rbf' needs estimator = 'minibatch', found {self.estimator!r}"
            )
        return self
