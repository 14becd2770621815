"""``[[lens]]`` and ``[[gates]]``: what is computed from models' hidden states; and ``where``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

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


def conditions_of(text: str) -> list[ColumnTest]:
    """The conditions of a text that `where_text` made.

    Raises:
        ValueError: it made no such text.
    """
    found, rest = [], text
    while rest:
        match = _TEST.match(rest)
        if match is None:
            raise ValueError(f"found where {text!r}, which is no condition")
        values = ast.literal_eval(match["values"])
        values = values if isinstance(values, tuple) else (values,)
        found.append(ColumnTest(match["column"], values, match["how"] in ("!=", "not in")))
        rest = rest[match.end() :]
    if " and ".join(map(str, found)) != text:
        raise ValueError(f"found where {text!r}, which is no condition")
    return found


_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ONE = rf"(?:{_STRING}|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_TEST = re.compile(
    rf"(?P<column>[A-Za-z_]\w*) (?P<how>=|!=|in|not in) "
    rf"(?P<values>{_ONE}|\({_ONE}(?:, {_ONE})+\))(?: and |$)"
)


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
