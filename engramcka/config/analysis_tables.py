"""``[[cka]]``: what is computed from hidden states."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engramcka.config.tables import Name, Table
from engramcka.config.where import parse_where


def _readable(where: str) -> str:
    if where.strip():
        parse_where(where)
    return where.strip()


Where = Annotated[str, AfterValidator(_readable)]


class CkaTable(Table):
    """``[[cka]]``: a map of each layer of ``y`` (rows) against each layer of ``x`` (columns)."""

    name: Name = Field(description="name of the map")
    y: str = Field(description="model on the rows")
    x: str = Field(description="model on the columns")
    estimator: Literal["minibatch", "debiased", "biased"] = Field(
        "minibatch", description="minibatch is the paper's; debiased is exact over all samples"
    )
    batch_size: int = Field(1024, ge=4, description="samples a batch of the minibatch estimator")
    kernel: Literal["linear", "rbf"] = Field(
        "linear", description="rbf takes the median distance as its width; minibatch only"
    )
    standardize: Literal["none", "zscore", "drop-massive"] = Field(
        "none", description="zscore every dimension, or drop those of massive activations"
    )
    nonfinite: Literal["error", "drop"] = Field(
        "error", description="samples with NaN or infinity: an error, or dropped from both models"
    )
    permutations: int = Field(
        0, ge=0, description="shuffles of one side for the null distribution; 0 for none"
    )

    where: Where = Field(
        "",
        description="which samples: a condition on the sample table's columns such as "
        "`type = 'person-actor'` or `kind in ('art', 'event')`; all of them if empty",
    )

    @model_validator(mode="after")
    def _has_kernel(self) -> CkaTable:
        if self.kernel == "rbf" and self.estimator != "minibatch":
            raise ValueError(
                f"kernel = 'rbf' needs estimator = 'minibatch', found {self.estimator!r}"
            )
        return self
