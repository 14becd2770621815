"""What every kind of result is and can: a small frozen dataclass of NumPy arrays and plain facts.

A field that is an array says along which dimensions with `along`; all other fields are kept as
JSON. That is all a store must know (`Result.pack`, `Result.unpack`). A result gives its numbers as
rows (`Result.rows`) and says in one sentence what it found (`Result.summary`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields
from importlib import import_module
from types import ModuleType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

import numpy as np

from engramcka.errors import ComparisonError
from engramcka.results.statistics import Float

Array = np.ndarray[Any, Any]
Arrays = dict[str, tuple[Array, tuple[str, ...]]]  # array name -> (values, dimension names)
Pack = tuple[Arrays, dict[str, Any]]  # arrays, and attributes beside the plain fields
Row = dict[str, Any]

_MAX_TEXT = 100_000  # characters of a label or a warning


def part(package: str, kind: str) -> ModuleType:
    """The module ``engramcka.PACKAGE.KIND`` of a kind of result: its figure, its chart.

    What stands above the results (figures, the terminal app) has one module a kind, named after it,
    which is loaded when it is asked for. Elsewhere modules of ours are named by text only in what
    ranks send each other (`engramcka.serialization`).
    """
    return import_module(f"engramcka.{package}.{kind}")


def along(*dimensions: str, name: str | None = None) -> dict[str, Any]:
    """Metadata of a dataclass's field that is stored as an array.

    Args:
        dimensions: their names.
        name: of the array, where it is not the field's.
    """
    return {"dimensions": dimensions, "name": name}


def count(number: int, noun: str) -> str:
    """The number with its noun, in the plural where it should be."""
    return f"{number} {noun}{'s' * (number != 1)}"


class Result:
    """A kind of result; a subclass is a frozen dataclass, listed in `engramcka.results.kinds`."""

    beside: ClassVar[tuple[str, ...]] = ()
    """Fields that `_pack_more` and `_unpack_more` take care of."""

    noun: ClassVar[str] = "model"
    """What there are several of where several results stand together."""

    label: str
    warnings: tuple[str, ...] = ()

    def rows(self) -> Iterator[Row]:
        """Its numbers as rows of named values; the first has every column.

        Layers count from 1; nothing is rounded; an unknown is None or NaN.
        """
        raise NotImplementedError

    def summary(self) -> str:
        """What it found, in one sentence."""
        raise NotImplementedError

    def size(self) -> str:
        """How large it is and how it was made, for a header; parts stand two spaces apart."""
        return ""

    @property
    def doubts(self) -> tuple[str, ...]:
        """The warnings that `summary` does not say."""
        return self.warnings

    @classmethod
    def arrays(cls) -> list[Field[Any]]:
        """The fields that are stored as arrays."""
        return [entry for entry in _fields(cls) if "dimensions" in entry.metadata]

    @classmethod
    def attributes(cls) -> list[str]:
        """Names of the fields that are stored as JSON."""
        return [
            entry.name
            for entry in _fields(cls)
            if "dimensions" not in entry.metadata and entry.name not in cls.beside
        ]

    @classmethod
    def required(cls) -> list[str]:
        """Names of the stored arrays that are always there."""
        hints = get_type_hints(cls)
        return [
            _stored_name(entry)
            for entry in cls.arrays()
            if type(None) not in get_args(hints[entry.name])
        ]

    def pack(self) -> Pack:
        """Its arrays with their dimensions, and its attributes beside the plain fields."""
        found: Arrays = {}
        for entry in self.arrays():
            value = getattr(self, entry.name)
            if value is not None:
                found[_stored_name(entry)] = (np.array(value), entry.metadata["dimensions"])
        arrays, attributes = self._pack_more()
        return {**found, **arrays}, attributes

    @classmethod
    def unpack(cls, arrays: Mapping[str, Array], attributes: Mapping[str, Any]) -> Self:
        """The result that was stored as these arrays and attributes.

        Raises:
            ValueError, TypeError, LookupError, AttributeError, EngramckaError: they are none.
        """
        values: dict[str, Any] = {
            entry.name: arrays[_stored_name(entry)]
            for entry in cls.arrays()
            if _stored_name(entry) in arrays
        }
        values |= {key: attributes[key] for key in cls.attributes() if key in attributes}
        hints = get_type_hints(cls)
        for key in values:
            if get_origin(hints[key]) is tuple:
                values[key] = tuple(np.asarray(values[key]).tolist())
        values |= cls._unpack_more(arrays, attributes)
        for key, value in values.items():
            if not isinstance(value, np.ndarray) and not fits(value, hints[key]):
                raise ValueError(f"{key} = {repr(value)[:60]} is no {hints[key]}")
        return cls(**values)

    def _pack_more(self) -> Pack:
        """Arrays and attributes of the fields that are neither an array nor plain."""
        return {}, {}

    @classmethod
    def _unpack_more(
        cls, arrays: Mapping[str, Array], attributes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Those fields from what is stored."""
        return {}

    def _set(self, **values: Any) -> None:
        """Give a field of a frozen dataclass the form that it is promised in."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _set_whole_numbers(self, *names: str) -> None:
        self._set(**{name: tuple(int(value) for value in getattr(self, name)) for name in names})

    def _set_floats(self, names: Sequence[str], shape: tuple[int, ...] | None, wants: str) -> None:
        """Make fields float64 arrays; None stays None.

        Args:
            names: of the fields.
            shape: that each must have; any if None.
            wants: what the message says of the right one, after the field's name.

        Raises:
            ComparisonError: an array has another shape.
        """
        for name in names:
            if getattr(self, name) is None:
                continue
            value: Float = np.asarray(getattr(self, name), dtype=np.float64)
            if shape is not None and value.shape != shape:
                raise ComparisonError(f"{wants.format(name)}, found shape {value.shape}")
            self._set(**{name: value})

    def _repr_png_(self) -> bytes:
        """The result as a notebook shows it."""
        return bytes(part("figures", "export").notebook_png(self))


def _fields(cls: type[Any]) -> tuple[Field[Any], ...]:
    return fields(cls)


def _stored_name(entry: Field[Any]) -> str:
    return str(entry.metadata["name"] or entry.name)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a field's type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(entry, arguments[0]) for entry in value)
    if origin is not None:
        key, inside = arguments if len(arguments) == 2 else (Any, Any)
        return isinstance(value, Mapping) and all(
            fits(name, key) and fits(entry, inside) for name, entry in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int and isinstance(value, bool):
        return False
    return isinstance(value, hint) and not (hint is str and len(value) > _MAX_TEXT)
