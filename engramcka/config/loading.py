"""Reading config.toml: the standard library's parser, then the schema, with errors that point.

A mistake is one line: file, line, key, what was found, what is allowed and the nearest valid name.
tomllib gives values without positions: the line of a key is found by reading the file's headers and
``key =`` lines, which is enough for a message and is never used for the values themselves.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engramcka.config import baselines
from engramcka.config.model_tables import MODEL_TABLES
from engramcka.config.schema import Config
from engramcka.config.tables import ConfigSource, KeyPath, plain_name
from engramcka.errors import ConfigError
from engramcka.plain_text import did_you_mean

_SIDES: tuple[Literal["y", "x"], ...] = ("y", "x")
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_ASSIGNMENT = re.compile(rf"^\s*({_DOTTED})\s*=(.*)$")
_MULTILINE = re.compile(r"\"\"\"|'''")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a config file.

    Args:
        path: the file.
        overrides: ``KEY=VALUE`` settings that come after the file; KEY is a dotted path, VALUE is
            TOML (a bare word is taken as a string). An entry of a list is named by its position
            or its ``name``: ``cka.engram-vs-moe.batch_size=256``.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or does not fit the schema.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    source = ConfigSource(str(path), find_lines(text), {})
    for override in overrides:
        source.overrides[_override(values, override)] = override
    return validate(values, source)


def validate(values: dict[str, Any], source: ConfigSource) -> Config:
    """Plain values as a Config; raises ConfigError for the first thing that is wrong."""
    try:
        # JSON mode: strict about types, yet lists may fill tuples, as TOML has no others.
        config = Config.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), values, source) from error
    config._source = source
    _check_names(config)
    return config


def dump_config(config: Config) -> str:
    """The resolved config as TOML text, defaults written out."""
    return tomli_w.dumps(config.to_dict())


def _check_names(config: Config) -> None:
    """What only the whole file shows: references, and names that are used twice."""
    for table in ("sweep", "allocation", "slots", "robustness", "matrix"):
        entries = getattr(config, table)
        names = [getattr(entry, "result_name", entry.name) for entry in entries]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise config.error((table, index, "name"), f"a second {table} named {name!r}")
    baselines.check(config)
    _check_maps(config)
    _check_lists_of_models(config)
    _check_bases(config)
    for kind, index, sweep in config.sweeps:
        _check_swept(config, (kind, index, "model"), sweep.model)
        if kind == "allocation" and config.models[sweep.model].source == "graft":
            raise config.error(
                (kind, index, "model"),
                f"{sweep.model!r} is grafted onto a model whose experts are trained already",
                "allowed: a model with source = 'train', whose preset gives up experts",
            )
        for number, name in enumerate(getattr(sweep, "references", ())):
            _check_trained(config, (kind, index, "references", number), name)


def _check_maps(config: Config) -> None:
    """Models of maps are there, and the maps' names can be names, each of one map."""
    taken: set[str] = set()  # by either table: series and figures go by the name alone
    for table, index, cka in config.maps:
        made = cka.part_of.startswith("baseline/")
        for side in () if made else _SIDES if cka.y is not None else _SIDES[1:]:
            _check_models(config, (table, index, cka.key_of(side)), cka.models(side))
        for one in cka.maps:
            key = "name" if cka.name else cka.key_of("x")
            try:
                plain_name(one.name)
            except ValueError as error:
                problem = f"a map would be called {one.name!r}"
                raise config.error((table, index, key), problem, str(error)) from error
            if one.name in taken:
                what = "a baseline of it would be a second" if made else "a second"
                problem = f"{what} {cka.kind} named {one.name!r}"
                raise config.error((table, index, key), problem, "give this table another name")
            taken.add(one.name)


def _check_bases(config: Config) -> None:
    """What memory is grafted onto is one model that transformers loads."""
    for name, model in config.models.items():
        if model.source != "graft":
            continue
        base = config.models.get(model.base)
        if base is None or base.source != "hf" or not base.is_trained:
            named = [
                other
                for other, table in config.models.items()
                if table.source == "hf" and table.is_trained
            ]
            raise config.error(
                ("models", name, "base"),
                f"{model.base!r} is no single trained model with source = 'hf'",
                f"allowed: {', '.join(named) or 'a model with that source, which is not here'}",
            )


def _check_swept(config: Config, path: KeyPath, name: str) -> None:
    _check_trained(config, path, name)
    if getattr(config.models[name], "engram", None) is None:
        raise config.error(
            path,
            f"{name!r} has no Engram module",
            "a sweep takes a model with source = 'train' or 'graft' and an engram table",
        )


def _check_trained(config: Config, path: KeyPath, name: str) -> None:
    if name not in config.models:
        raise config.error(path, f"no model {name!r}", _choices(name, config.models))
    table = config.models[name]
    if table.source not in ("train", "graft") or getattr(table, "weights", "") == "random":
        raise config.error(
            path,
            f"{name!r} is not trained here",
            "allowed: a model with source 'train' or 'graft'",
        )


def _check_lists_of_models(config: Config) -> None:
    """Models of ``[[lens]]`` and ``[[gates]]`` are there, and no result is named twice."""
    for index, lens in enumerate(config.lens):
        _check_models(config, ("lens", index, "models"), lens.models)
        _check_models(config, ("lens", index, "memory_off"), lens.memory_off)
        taken = {name for other in config.lens[:index] for name in other.curves}
        for name in lens.curves:
            if name in taken:
                raise config.error(
                    ("lens", index, "models"), f"a second lens/{name}", "give this table a name"
                )
    for index, gates in enumerate(config.gates):
        _check_models(config, ("gates", index, "models"), gates.models)
        for name in gates.models:
            if any(name in other.models for other in config.gates[:index]):
                raise config.error(("gates", index, "models"), f"a second gates/{name}")


def _check_models(config: Config, path: KeyPath, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name not in config.models:
            raise config.error(path, f"no model {name!r}", _choices(name, config.models))
        if name in names[:place]:
            raise config.error(path, f"{name!r} is there twice")


def _explain(
    errors: list[ErrorDetails], values: dict[str, Any], source: ConfigSource
) -> ConfigError:
    """The first mistake, a misspelt key before the key that is missing because of it."""
    details = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    path = _real_path(details["loc"], values)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _table_keys(path[:-1], values)
        return source.error(path, "unknown key", _choices(str(path[-1]), keys))
    if kind == "missing":
        if path and isinstance(path[-1], int):
            return source.error(path[:-1], f"found {path[-1]} values", "it takes more")
        return source.error(path, "this key is missing", _description(path, values))
    if kind in ("literal_error", "union_tag_invalid"):
        allowed = context.get("expected") or context.get("expected_tags") or ""
        found = context.get("tag", details["input"])
        names = re.findall(r"'([^']*)'", str(allowed))
        at = (*path, "source") if kind == "union_tag_invalid" else path
        return source.error(at, f"found {found!r}", _choices(str(found), names))
    if kind == "union_tag_not_found":
        return source.error((*path, "source"), "this key is missing", _choices("", MODEL_TABLES))
    if kind == "value_error":
        return source.error(path, _allowed(details))
    # A field of several kinds ("all" or a list) gives an error for each of them.
    here = [_allowed(error) for error in errors if _real_path(error["loc"], values) == path]
    allowed = " or ".join(dict.fromkeys(here))
    return source.error(path, f"found {_short(details['input'])}", f"allowed: {allowed}")


def _allowed(details: ErrorDetails) -> str:
    """What a key takes, in place of pydantic's words, which speak of Python's types."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":  # ours
        return str(context["error"])
    if kind in ("too_short", "too_long"):
        side = "most" if kind == "too_long" else "least"
        number = context["max_length" if side == "most" else "min_length"]
        return f"a list of at {side} {number} {'entry' if number == 1 else 'entries'}"
    if kind == "string_too_short":
        return "text that is not empty"
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    for begin, words in _TYPES.items():
        if kind.startswith(begin):
            return words
    return details["msg"].removeprefix("Input should be ")


_TYPES = {  # how pydantic's names of mistakes begin
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_type": "text, in quotes",
    "tuple_": "a list",
    "list_": "a list",
    "dict_": "a table",
    "model_": "a table",
}


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _choices(found: str, allowed: Any) -> str:
    """`did you mean X? allowed: A, B` for a name that is none of the allowed."""
    names = [str(name) for name in allowed]
    hint = did_you_mean(found, names, cutoff=0.5)
    return f"{hint}allowed: {', '.join(repr(name) for name in names) or 'none'}"


def _real_path(loc: tuple[int | str, ...], values: Any) -> KeyPath:
    """pydantic's location without the parts that name a union's branch and not a key."""
    path: list[str | int] = []
    here = values
    for position, part in enumerate(loc):
        if position == 2 and loc[0] == "models":  # the source, which tells the tables apart
            continue
        last = position == len(loc) - 1
        inside = part in here if isinstance(here, dict) else False
        if isinstance(here, list) and isinstance(part, int):
            inside = part < len(here)
        if inside:
            here = here[part]
        elif not (last and isinstance(here, dict)) or "[" in str(part):
            continue
        path.append(part)
    return tuple(path)


def _table(path: KeyPath, values: dict[str, Any]) -> type[BaseModel] | None:
    """The schema's class for the table at a path."""
    kind: type[BaseModel] | None = Config
    for position, part in enumerate(path):
        if isinstance(part, int):
            continue
        if position == 1 and path[0] == "models":
            source = values["models"][part].get("source")
            kind = MODEL_TABLES.get(str(source), MODEL_TABLES["train"])
            continue
        if part == "models" or kind is None:
            continue
        kind = _table_class(kind.model_fields[str(part)].annotation)
    return kind


def _table_class(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_table_class(part) for part in getattr(annotation, "__args__", ()))
    return next((kind for kind in found if kind is not None), None)


def _table_keys(path: KeyPath, values: dict[str, Any]) -> list[str]:
    kind = _table(path, values)
    return list(kind.model_fields) if kind is not None else []


def _description(path: KeyPath, values: dict[str, Any]) -> str:
    kind = _table(path[:-1], values)
    entry = kind.model_fields.get(str(path[-1])) if kind is not None else None
    return f"it is {entry.description}" if entry is not None and entry.description else ""


def _override(values: dict[str, Any], override: str) -> KeyPath:
    """Apply one ``KEY=VALUE`` in place and return the path that it set."""
    key, equals, value = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: found no KEY=VALUE; e.g. --set data.samples=1024")
    here: Any = values
    path: list[str | int] = []
    for position, part in enumerate(parts):
        index: Any = part
        if isinstance(here, list):
            names = [str(entry.get("name", i)) for i, entry in enumerate(here)]
            if part not in names and not (part.isdecimal() and int(part) < len(here)):
                raise ConfigError(f"--set {override}: no entry {part!r}; {_choices(part, names)}")
            index = names.index(part) if part in names else int(part)
        elif not isinstance(here, dict):
            raise ConfigError(f"--set {override}: {'.'.join(parts[:position])} is not a table")
        path.append(index)
        if position == len(parts) - 1:
            here[index] = _toml_value(value.strip())
        else:
            here = here[index] if isinstance(here, list) else here.setdefault(str(index), {})
    return tuple(path)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every table header and every ``key =`` of a valid TOML document."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    closing, depth = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:  # inside a multi-line string
            closing = "" if closing in line else closing
            continue
        if depth > 0:  # inside a multi-line array
            depth += _depth(line)
            continue
        if header := _HEADER.match(line):
            table = _resolve(_parts(header[2]), counts, is_list=header[1] == "[[")
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            path = table + tuple(_parts(assignment[1]))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], number)
            value = assignment[2]
            quotes = _MULTILINE.findall(value)
            closing = quotes[0] if len(quotes) == 1 else ""
            depth = 0 if closing else max(0, _depth(value))
    return lines


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]


def _resolve(parts: Sequence[str], counts: dict[KeyPath, int], *, is_list: bool) -> KeyPath:
    """A header's path with list indices: the second [[cka]] is ("cka", 1)."""
    path: KeyPath = ()
    for index, part in enumerate(parts):
        path += (part,)
        if is_list and index == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _depth(value: str) -> int:
    """Brackets opened less brackets closed on a line, strings and comments left out."""
    bare = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", "", value).split("#")[0]
    return bare.count("[") - bare.count("]")
