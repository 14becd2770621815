"""``[[matrix]]``: all pairs of a set of models, one number a pair."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from engramcka.config.analysis_tables import Where
from engramcka.config.map_tables import MapOf, MapTable
from engramcka.config.tables import Name, Table
from engramcka.measures import NEIGHBOURS, MeasureName

FEWEST = 3  # models of a matrix


class PairTable(MapTable):
    """All maps of a ``[[matrix]]`` table, as the table that makes them; no table of a config."""

    matrix: str
    checkpoints: bool

    @property
    def options(self) -> dict[str, Any]:
        """As of any map."""
        found = super().options
        return {key: value for key, value in found.items() if key not in ("matrix", "checkpoints")}

    @property
    def maps(self) -> list[MapOf]:
        """A map for each pair of two models, the one that is named first on the rows."""
        pairs = combinations(self.models("x"), 2)
        return [MapOf(pair_name(self.matrix, y, x), y, x) for y, x in pairs]

    def key_of(self, side: Literal["y", "x"]) -> str:
        """The key of the matrix table that names the models."""
        return "models"

    @model_validator(mode="after")
    def _has_pairs(self) -> PairTable:
        """One model may be a series, whose checkpoints are the pairs."""
        return self


def pair_name(matrix: str, y: str, x: str) -> str:
    """What the map of two models, or checkpoints, is called."""
    return f"{x}-vs-{y}.of-{matrix}"


class MatrixTable(Table):
    """``[[matrix]]``: models x models, one number for each pair of a set (docs/matrix.md)."""

    name: Name | None = Field(
        None, description="makes the result matrix/NAME; if left out, that of the measure"
    )
    models: tuple[str, ...] = Field(
        min_length=1,
        description=f"the models, at least {FEWEST} with their checkpoints; each with each makes a "
        "map X-vs-Y.of-NAME, unless a table of maps makes the same one",
    )
    score: Literal["best-match", "same-depth"] = Field(
        "best-match",
        description="the number of a pair: mean similarity of each layer with its best match in "
        "the other model, both ways; or that of layers at the same relative depth",
    )
    checkpoints: bool = Field(
        False,
        description="of a series over training every checkpoint is one of the set; false: the last "
        "alone",
    )
    measure: MeasureName = Field("cka", description="as in `[[map]]`")
    estimator: Literal["minibatch", "debiased", "biased"] = Field(
        "minibatch", description="as in `[[cka]]`"
    )
    batch_size: int = Field(1024, ge=4, description="as in `[[cka]]`")
    batches: Literal["random", "in-order"] = Field("random", description="as in `[[cka]]`")
    pairs: Literal["across-documents", "all"] = Field(
        "across-documents", description="pairs of samples that count, as in `[[cka]]`"
    )
    normalize: Literal["none", "rms"] = Field("none", description="as in `[[cka]]`")
    standardize: Literal["none", "zscore", "drop-massive"] = Field(
        "none", description="as in `[[cka]]`"
    )
    nonfinite: Literal["error", "drop"] = Field("error", description="as in `[[cka]]`")
    massive: Literal["keep", "drop"] = Field("keep", description="as in `[[cka]]`")
    k: int = Field(NEIGHBOURS, ge=1, description="neighbours of mutual-knn and cknna")
    variance: float | None = Field(
        None, gt=0, le=1, description="of svcca and pwcca, as in `[[map]]`"
    )
    where: Where = Field({}, description="which samples, as in `[[cka]]`")

    @property
    def result_name(self) -> str:
        """Its own name, or that of its measure."""
        return self.name or self.measure

    @property
    def table(self) -> PairTable:
        """The table that makes its maps."""
        keys = (self.model_fields_set | {"measure", "checkpoints"}) - {"name", "models", "score"}
        values: dict[str, Any] = {key: getattr(self, key) for key in keys}
        found = PairTable(matrix=self.result_name, x=self.models, **values)
        return found.made_for(f"matrix/{self.result_name}")

    @model_validator(mode="after")
    def _has_maps(self) -> MatrixTable:
        if len(self.models) < FEWEST and not self.checkpoints:
            raise ValueError(
                f"models = {list(self.models)} are fewer than {FEWEST}; two models are a map "
                "([[cka]] or [[map]]), and checkpoints = true takes all of a series over training"
            )
        try:
            self.table  # noqa: B018  (it refuses what its measure has no use for)
        except ValidationError as error:
            problem: Any = error.errors(include_url=False)[0].get("ctx", {}).get("error", error)
            raise ValueError(str(problem)) from error
        return self
