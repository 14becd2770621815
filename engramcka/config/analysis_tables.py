"""``[[cka]]``, ``[[lens]]`` and ``[[gates]]``: what is computed from models' hidden states."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from engramcka.config.tables import Name, Place, Table

Value = str | int | float


@dataclass(frozen=True)
class ColumnTest:
    """A column of the sample table against values: it is one of them, or none of them."""

    column: str
    values: tuple[Value, ...]
    is_negated: bool

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.column} {'!=' if self.is_negated else '='} {self.values[0]!r}"
        values = ", ".join(map(repr, self.values))
        return f"{self.column} {'not in' if self.is_negated else 'in'} ({values})"


def column_tests(where: Mapping[str, Any]) -> list[ColumnTest]:
    """The conditions of a ``where`` table, which must all hold."""
    return [_column_test(column, condition) for column, condition in where.items()]


def where_text(where: Mapping[str, Any]) -> str:
    """A ``where`` table as one line: ``kind = 'person' and type in ('a', 'b')``.

    Stored results name their samples by this text, and are computed again when it changes; the
    order of the keys says nothing, so columns stand by name.
    """
    return " and ".join(map(str, sorted(column_tests(where), key=lambda test: test.column)))


def _column_test(column: str, condition: Any) -> ColumnTest:
    """One condition; raises ValueError where it is none."""
    is_negated = isinstance(condition, Mapping) and list(condition) == ["not"]
    found = condition["not"] if is_negated else condition
    values = tuple(found) if isinstance(found, list | tuple) else (found,)
    is_valid = all(isinstance(v, Value) and not isinstance(v, bool) for v in values)
    if not (values and is_valid and re.fullmatch(r"[A-Za-z_]\w*", column)):
        raise ValueError(f"found {column} = {condition!r}; {_FORM}")
    return ColumnTest(column, values, is_negated)


_FORM = (
    'allowed: COLUMN = "VALUE" or a number, COLUMN = ["A", "B"] for one of several, '
    'COLUMN = { not = "VALUE" } or { not = ["A", "B"] } for none of them'
)


def _check_where(found: Any) -> Any:
    if found == "":  # as configs that older versions wrote into a run have it
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(
            f"found {found!r}; a condition is a table, as "
            'where = { kind = "person", type = ["person-actor", "person-soldier"] } or '
            'where = { kind = { not = "other" } }'
        )
    column_tests(found)
    return found


Where = Annotated[dict[str, Any], BeforeValidator(_check_where)]


@dataclass(frozen=True)
class MapOf:
    """A map of two models: what it is called, and the models on its rows and columns."""

    name: str
    y: str
    x: str


class CkaTable(Table):
    """``[[cka]]``: a map of each layer of ``y`` (rows) against each layer of ``x`` (columns)."""

    name: Name | None = Field(
        None,
        description="name of the map, X-vs-Y if left out; where y or x is a list, makes the maps "
        "X-vs-Y.NAME",
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
    kernel: Literal["linear", "rbf"] = Field(
        "linear", description="rbf takes the median distance as its width; minibatch only"
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
    where: Where = Field(
        {},
        description="which samples, by columns of the sample table: "
        '`{ kind = "person" }`, `{ kind = ["art", "event"] }` for one of several, '
        '`{ kind = { not = "other" } }`; several columns must all fit; all samples if empty',
    )

    @property
    def maps(self) -> list[MapOf]:
        """The maps of the table, in the order of y and then of x.

        Of lists every pair is one map, with the model that comes first on the rows; a model of a
        list is not compared with itself.
        """
        if isinstance(self.y, str) and isinstance(self.x, str):
            return [MapOf(self.name or f"{self.x}-vs-{self.y}", self.y, self.x)]
        suffix = f".{self.name}" if self.name else ""
        pairs: dict[frozenset[str], MapOf] = {}
        for y in self.models("y"):
            for x in self.models("x"):
                if y != x:
                    pairs.setdefault(frozenset((y, x)), MapOf(f"{x}-vs-{y}{suffix}", y, x))
        return list(pairs.values())

    def models(self, side: Literal["y", "x"]) -> tuple[str, ...]:
        """The models of one side, as a list in any case."""
        found = self.x if side == "x" or self.y is None else self.y
        return (found,) if isinstance(found, str) else found

    @model_validator(mode="after")
    def _has_pairs(self) -> CkaTable:
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

    @model_validator(mode="after")
    def _has_kernel(self) -> CkaTable:
        if self.kernel == "rbf" and self.estimator != "minibatch":
            raise ValueError(
                f"kernel = 'rbf' needs estimator = 'minibatch', found {self.estimator!r}"
            )
        return self


class LensTable(Table):
    """``[[lens]]``: LogitLens, each block's prediction against the model's own (docs/lens.md)."""

    models: tuple[str, ...] = Field(
        min_length=1, description="models that are read; each gives a curve lens/MODEL"
    )
    name: Name | None = Field(
        None, description="makes the curves lens/MODEL.NAME, where a model has several"
    )
    direction: Literal["final||layer", "layer||final"] = Field(
        "final||layer",
        description="of the divergence: KL(final || layer), as tuned-lens has it, or "
        "KL(layer || final)",
    )
    where: Where = Field(
        {}, description="which samples, as in `[[cka]]`; the last token of each is read"
    )
    memory_off: tuple[str, ...] = Field(
        (),
        description="of these models also the curve with their Engram modules silenced, "
        "lens/MODEL.memory-off: a forward pass more",
    )
    checkpoints: bool = Field(
        False,
        description="of a series over training, a curve of every checkpoint, "
        "lens/MODEL.step-000025; false: of the last alone",
    )

    @property
    def curves(self) -> dict[str, tuple[str, bool]]:
        """Name of each curve -> (model, whether its memory is on)."""
        suffix = f".{self.name}" if self.name else ""
        found = {f"{model}{suffix}": (model, True) for model in self.models}
        return found | {f"{one}{suffix}.memory-off": (one, False) for one in self.memory_off}


class GatesTable(Table):
    """``[[gates]]``: what Engram modules let through, and what a model is worth without them."""

    models: tuple[str, ...] = Field(
        min_length=1, description="models with Engram modules; each gives gates/MODEL"
    )
    texts: tuple[str, ...] = Field(
        (),
        description="texts whose gates are kept token by token, as in the paper's Figure 7; the "
        "first passages if there are none",
    )
    passages: int = Field(
        512, ge=1, description="passages that are read at most, drawn evenly from the samples'"
    )
    memory_off: bool = Field(
        True, description="also the loss with the memory silenced, memory/MODEL (section 6.3)"
    )
    frequency: bool = Field(
        False,
        description="also by how often an n-gram stood in the training text (new, rare, frequent), "
        "of models that are trained here",
    )
    other: Place | None = Field(
        None,
        min_length=1,
        description="other text, on which gates and losses are read too: a file, folder or glob of "
        "text files, a document each, or python-manual, the running Python's manual in English",
    )
