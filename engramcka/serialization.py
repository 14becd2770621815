"""What ranks send each other, as bytes and back, without pickle: nothing that arrives is executed.

Numbers, text, None, lists, tuples, string-keyed dicts, NumPy arrays of numbers, errors of this
package and dataclasses of this package. JSON for the tree, one `.npz` for the arrays.
"""

from __future__ import annotations

import io
import json
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np

from engramcka.errors import EngramckaError

_PACKAGE = "engramcka."
_HEADER = 8  # bytes that say how long the JSON is


def pack(value: Any) -> bytes:
    """A value as bytes.

    Raises:
        TypeError: a part of it is of another type.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    tree = json.dumps(_plain(value, arrays)).encode()
    buffer = io.BytesIO()
    if arrays:
        np.savez(buffer, allow_pickle=False, **{str(n): array for n, array in enumerate(arrays)})
    return len(tree).to_bytes(_HEADER, "little") + tree + buffer.getvalue()


def unpack(content: bytes) -> Any:
    """The value that `pack` made bytes of.

    Raises:
        ValueError: it is none, or names a class that is no dataclass or error of this package.
    """
    end = _HEADER + int.from_bytes(content[:_HEADER], "little")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    if len(content) > end:
        with np.load(io.BytesIO(content[end:]), allow_pickle=False) as file:
            arrays = dict(file)
    return _value(json.loads(content[_HEADER:end]), arrays)


def _plain(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """The value as JSON, in which {"TAG": ..} stands for what JSON does not have."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list):
        return [_plain(entry, arrays) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(entry, arrays) for entry in value]}
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects cannot be sent to another rank")
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"dict": [[str(key), _plain(entry, arrays)] for key, entry in value.items()]}
    if isinstance(value, EngramckaError):
        return {"error": [_name(type(value)), str(value), value.exit_code]}
    if is_dataclass(value) and not isinstance(value, type):
        content = [
            [entry.name, _plain(getattr(value, entry.name), arrays)] for entry in fields(value)
        ]
        return {"dataclass": [_name(type(value)), content]}
    raise TypeError(f"{type(value).__name__} cannot be sent to another rank")


def _value(tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if isinstance(tree, list):
        return [_value(entry, arrays) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    ((tag, content),) = tree.items()
    if tag == "tuple":
        return tuple(_value(entry, arrays) for entry in content)
    if tag == "array":
        return arrays[str(content)]
    if tag == "dict":
        return {key: _value(entry, arrays) for key, entry in content}
    if tag == "error":
        name, message, code = content
        return _class(name, EngramckaError)(message, exit_code=int(code))
    if tag == "dataclass":
        name, entries = content
        return _class(name, None)(**{key: _value(entry, arrays) for key, entry in entries})
    raise ValueError(f"{tag!r} is nothing that a rank sends")


def _name(kind: type[Any]) -> str:
    if not kind.__module__.startswith(_PACKAGE):
        raise TypeError(f"{kind.__qualname__} is not of this package and cannot be sent")
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str, base: type[Any] | None) -> Any:
    """A class of this package by name: an error if there is a base, else a dataclass."""
    module, _, attribute = name.partition(":")
    if not module.startswith(_PACKAGE):
        raise ValueError(f"{name} is not of this package")
    found = getattr(import_module(module), attribute, None)
    fits = isinstance(found, type) and (issubclass(found, base) if base else is_dataclass(found))
    if not fits:
        raise ValueError(f"{name} is nothing that a rank sends")
    return found
