"""Every key of config.toml as a Markdown page, from the schema's own sentences.

``python -m engramcka.config.reference > docs/config.md``; a test holds the page to the schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engramcka.config.memory_tables import EngramConfig, MemoryTable
from engramcka.config.model_tables import MODEL_TABLES, ImportedModel, TrainedModel
from engramcka.config.schema import Config
from engramcka.config.tables import Table


def config_tables() -> list[type[Table]]:
    """All tables in the order of the file; the sources of models in place of ``[models]``."""
    models: list[type[Table]] = [TrainedModel, EngramConfig]
    for table in MODEL_TABLES.values():
        if table is ImportedModel:
            models.append(MemoryTable)  # behind those that have it
        if table is not TrainedModel:
            models.append(table)
    found: list[type[Table]] = []
    for key, field in Config.model_fields.items():
        if key == "models":
            found += models
            continue
        hint = field.annotation
        of_key = get_args(hint)[0] if get_origin(hint) is tuple else hint
        assert isinstance(of_key, type)
        found.append(of_key)
    return found


def config_reference() -> str:
    """The text of docs/config.md: a table of keys for each table of the config."""
    lines = [
        "# config.toml",
        "",
        "Every table and key. An unknown key is an error. `engramcka init` writes a commented file",
        "to start from; `engramcka run` writes the resolved one, defaults and all, into the run.",
    ]
    for table in config_tables():
        lines += ["", *_table(table)]
    return "\n".join(lines) + "\n"


def _table(table: type[BaseModel]) -> Iterator[str]:
    yield "## " + " ".join((table.__doc__ or "").split())
    yield ""
    yield "| key | values | default | |"
    yield "|---|---|---|---|"
    for name, field in table.model_fields.items():
        cells = (f"`{name}`", _kind(field), _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _kind(field: FieldInfo) -> str:
    return _within(_type(field.annotation), field.metadata)


def _within(text: str, metadata: Iterable[Any]) -> str:
    """A type with the limits of its values."""
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in metadata
        for kind, name, sign in (
            (annotated_types.Ge, "ge", "≥"),
            (annotated_types.Gt, "gt", ">"),
            (annotated_types.Le, "le", "≤"),
            (annotated_types.Lt, "lt", "<"),
        )
        if isinstance(limit, kind)
    ]
    return f"{text} {', '.join(limits)}".strip()


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin is Annotated:
        of_fields = [part.metadata for part in arguments[1:] if isinstance(part, FieldInfo)]
        return _within(_type(arguments[0]), chain.from_iterable(of_fields))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "table"
    if arguments:
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    names = {int: "integer", float: "number", str: "string", bool: "true or false"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or field.default in ((), {}):
        return "none"
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    print(config_reference(), end="")
