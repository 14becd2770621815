"""Hidden states that others extracted: arrays in .npy, .npz, .safetensors, HDF5 or Zarr files.

One array (samples, width) a layer, read a slice of samples at a time; Zarr also behind a URL.
Nothing pickled is ever loaded.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from engramcka import foreign_files
from engramcka.errors import DataError, StoreError
from engramcka.plain_text import first_line
from engramcka.stores import layout, nodes
from engramcka.stores.activations import ActivationStore
from engramcka.stores.foreign import limits
from engramcka.stores.foreign.array_files import ZippedArray, mapped, open_hdf5, open_npz
from engramcka.stores.foreign.limits import ArrayShape, Opened
from engramcka.stores.foreign.sweeps import MAX_LAYER
from engramcka.stores.foreign.zarr_arrays import has_arrays, open_zarr
from engramcka.stores.open import open_activations
from engramcka.stores.remote import has_store, is_url, remote_path
from engramcka.text_rows import BadLine, read_json_lines

_LONGEST_NAME = 255
_LONGEST_ROW = 1 << 20  # bytes of a line of a sample table
_DTYPES = {"float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "float64": "float32"}
_FORMATS = (".npy", ".npz", ".safetensors", ".h5", ".hdf5", ".zarr")


@dataclass(frozen=True)
class ForeignArrays:
    """The arrays of one model, open for reading."""

    layers: dict[int, str]  # layer number -> its array's name, in order
    shape: tuple[int, int]  # (samples, width), of every one
    dtype: str  # as stored here: float64 becomes float32
    found_dtype: str  # as it is there
    read: Callable[[str, slice], Any]  # (array's name, samples) -> (samples, width)
    store: ActivationStore | None = None  # that they are in, if engramcka wrote them

    def rows(self, samples: slice) -> Iterator[tuple[int, Any]]:
        """(layer number, (samples, width) in `dtype`, bfloat16 as uint16 words) of every layer."""
        for number, name in self.layers.items():
            try:
                block = np.asarray(self.read(name, samples))
            except Exception as error:  # each format's library raises its own kinds
                raise StoreError(f"array {name!r} cannot be read ({first_line(error)})") from error
            if self.dtype == "bfloat16":
                yield number, np.ascontiguousarray(block).view(np.uint16)
            else:
                yield number, block.astype(self.dtype, copy=False)


@contextmanager
def open_foreign(
    path: str,
    names: Sequence[str] | None = None,
    first_layer: int | None = None,
    layer_axis: int | None = None,
) -> Iterator[ForeignArrays]:
    """Open the arrays that a path names.

    Args:
        path: a file, a folder or glob of .npy files, or a Zarr group, also behind a URL.
        names: of the arrays, first layer first; None for all, by the number at the end of their
            names.
        first_layer: number of the first array; None for the numbers in the names, or 1 if ``names``
            is given. Numbers in the names are moved by as many, gaps and all; from 0 they say
            nothing, since people count the embedding so and the first block too.
        layer_axis: of one array of three dimensions that holds all layers, the axis that counts
            them, 0 or 1; the layers are numbered from 1, or from ``first_layer``.

    Raises:
        StoreError: nothing there, or it cannot be read.
        DataError: no such array, no number in a name, numbers from 0 without ``first_layer``, or
            shapes and dtypes that do not agree.
    """
    with ExitStack() as stack:
        store = None
        try:
            store = own_store(path)
            shapes, read = open_arrays(path, stack) if store is None else layers_of(store)
        except (StoreError, DataError):
            raise
        except Exception as error:  # each format's library raises its own kinds
            raise StoreError(
                f"{path}: cannot be read ({first_line(error)})", exit_code=2
            ) from error
        if layer_axis is not None:
            shapes, read = _unstacked(path, shapes, read, layer_axis)
        elif _is_stack(shapes):
            shape = tuple(next(iter(shapes.values())).shape)
            raise DataError(
                f"{path}: one array of shape {shape}; say with layer_axis = 0 or 1 which axis "
                "counts the layers"
            )
        if store is not None and names is None and first_layer is None:
            first_layer = min(store.layers)  # 0 is the embedding in stores of ours
        layers = _number(path, list(shapes), names, first_layer)
        shape, dtype = _common(path, {name: shapes[name] for name in layers.values()})
        yield ForeignArrays(layers, shape, _DTYPES[dtype], dtype, read, store)


def number_in(name: str) -> int | None:
    """The layer number that an array's name tells: the last number in it."""
    digits = re.findall(r"\d+", name[:_LONGEST_NAME])
    return int(digits[-1]) if digits else None


def read_samples(path: str) -> dict[str, Any]:
    """A sample table from JSON lines: column name -> (samples,) array.

    Raises:
        StoreError: it cannot be read.
        DataError: a line that is not the columns of the first one, or not what a sample has.
    """
    rows: list[Mapping[str, Any]] = []
    try:
        for number, row in read_json_lines(Path(path).expanduser(), _LONGEST_ROW):
            if rows and row.keys() != rows[0].keys():
                raise DataError(f"{path}, line {number}: has not the first row's columns")
            if len(rows) == limits.MOST_SAMPLES:
                raise DataError(f"{path}: more than {limits.MOST_SAMPLES:,} samples")
            rows.append(row)
    except BadLine as error:
        raise StoreError(f"{path}, {error}", exit_code=2) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({first_line(error)})", exit_code=2) from error
    columns = {name: _column(path, name, rows) for name in (rows[0] if rows else ())}
    for name in ("document", "start", "end"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; it has: {', '.join(columns) or 'none'}")
    for name in ("start", "end"):
        if columns[name].dtype.kind != "i":
            raise DataError(f"{path}: column {name!r} holds no whole numbers")
    seen = {(row["document"], row["start"], row["end"]) for row in rows}
    if len(seen) < len(rows):
        raise DataError(
            f"{path}: {len(rows) - len(seen)} rows repeat the document, start and end of another"
        )
    return {**columns, "document": columns["document"].astype(str)}


def _column(path: str, name: str, rows: list[Mapping[str, Any]]) -> Any:
    """(samples,) values of one column; text takes as many characters a row as its longest."""
    values = [row[name] for row in rows]
    kinds = set(map(type, values))
    if not kinds <= {str, int, float, bool} or (str in kinds and len(kinds) > 1):
        raise DataError(f"{path}: column {name[:40]!r} is not text or numbers throughout")
    if kinds == {str} and max(map(len, values)) * len(values) * 4 > limits.MOST_CHUNK:
        raise DataError(f"{path}: column {name[:40]!r} has text that is too long for so many rows")
    if kinds != {str} and any(abs(value) >= 1 << 63 for value in values if type(value) is int):
        raise DataError(f"{path}: column {name[:40]!r} has numbers that no one counts to")
    return np.array(values)


def _is_stack(shapes: Mapping[str, Any]) -> bool:
    """Whether there is one array, of three dimensions."""
    return [len(array.shape) for array in shapes.values()] == [3]


def _unstacked(path: str, shapes: Mapping[str, Any], read: Any, axis: int) -> Opened:
    """The layers of one array of three dimensions as an array each."""
    found = {name: tuple(array.shape) for name, array in shapes.items()}
    if not _is_stack(shapes):
        there = ", ".join(f"{name!r} {shape}" for name, shape in list(found.items())[:4])
        raise DataError(
            f"{path}: layer_axis = {axis} is for one array of three dimensions, found {there}; "
            "leave it out"
        )
    ((stack, shape),) = found.items()
    if isinstance(shapes[stack], ZippedArray):
        raise DataError(f"{path}: of an .npz a stack of layers is not read; save it as .npy")
    if shape[axis] > limits.MOST_ARRAYS:
        raise DataError(
            f"{path}: {shape[axis]:,} layers by layer_axis = {axis}; at most {limits.MOST_ARRAYS:,}"
        )
    layers = {f"{stack}, layer {index + 1}": index for index in range(shape[axis])}
    one = ArrayShape((shape[1 - axis], shape[2]), shapes[stack].dtype)

    def read_one(name: str, rows: slice) -> Any:
        index = layers[name]
        return read(stack, (index, rows) if axis == 0 else (rows, index))

    return dict.fromkeys(layers, one), read_one


def _number(
    path: str, there: list[str], names: Sequence[str] | None, first_layer: int | None
) -> dict[int, str]:
    """Layer number -> array, in order."""
    if not there:
        raise DataError(f"{path}: holds no arrays")
    if names is not None:
        for name in names:
            if name not in there:
                has = ", ".join(other[:_LONGEST_NAME] for other in there[:12])
                raise DataError(f"{path}: no array {name!r}; it has: {has}")
        return dict(enumerate(names, start=1 if first_layer is None else first_layer))
    numbers: dict[int, str] = {}
    for name in there:
        shown, number = name[:_LONGEST_NAME], number_in(name)
        if number is None:
            raise DataError(f"{path}: array {shown!r} has no layer number in its name; set layers")
        if name != shown or number > MAX_LAYER:
            raise DataError(f"{path}: array {shown!r} has no layer's number; set layers")
        if number in numbers:
            raise DataError(
                f"{path}: arrays {numbers[number]!r} and {name!r} have the same number; set layers"
            )
        numbers[number] = name
    lowest, highest = min(numbers), max(numbers)
    if first_layer is None and lowest == 0:
        first, last = numbers[lowest], numbers[highest]
        raise DataError(
            f"{path}: arrays are numbered from 0 ({first!r} to {last!r}); say with first_layer "
            f"which layer {first!r} is: 0 for the embedding, 1 for the first block"
        )
    shift = 0 if first_layer is None else first_layer - lowest
    return {number + shift: name for number, name in sorted(numbers.items())}


def _common(path: str, arrays: Mapping[str, Any]) -> tuple[tuple[int, int], str]:
    """Shape and dtype, which all must share."""
    first = next(iter(arrays))
    for name, array in arrays.items():
        if len(array.shape) != 2 or 0 in array.shape:
            raise DataError(
                f"{path}: array {name!r} has shape {tuple(array.shape)}, expected (samples, width)"
            )
        if str(array.dtype) not in _DTYPES:
            raise DataError(
                f"{path}: array {name!r} holds {array.dtype}; allowed: {', '.join(_DTYPES)}"
            )
        for what in ("shape", "dtype"):
            here, before = getattr(array, what), getattr(arrays[first], what)
            if here != before:
                raise DataError(
                    f"{path}: array {name!r} has {what} {here}, array {first!r} {before}; they "
                    "must agree"
                )
    rows, width = arrays[first].shape
    if rows > limits.MOST_SAMPLES or width > limits.MOST_WIDTH:
        raise DataError(
            f"{path}: {rows:,} samples of width {width:,}; at most {limits.MOST_SAMPLES:,} of "
            f"width {limits.MOST_WIDTH:,}"
        )
    return (int(rows), int(width)), str(arrays[first].dtype)


def own_store(path: str) -> ActivationStore | None:
    """The activation store of ours that a path or a URL names; None where it names another thing.

    Raises:
        StoreError: it is damaged or not complete: what is missing would read as zeros.
    """
    if is_url(path):
        return open_activations(path) if has_store(remote_path(path)) else None
    place = Path(path).expanduser()
    try:
        node = json.loads(foreign_files.read_file(place / nodes.ZARR_JSON, nodes.MOST_BYTES))
        if node["attributes"].get(layout.TYPE) != "activations":
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    store = open_activations(place)
    if store.missing():
        raise StoreError(f"{path}: samples are missing in it; finish its run first", exit_code=2)
    return store


def open_arrays(path: str, stack: ExitStack) -> Opened:
    """Whatever is at a path or a URL, but for stores of ours."""
    place = Path(path).expanduser()
    if is_url(path) or has_arrays(place):
        return open_zarr(path)
    if place.exists() and not place.is_dir() and place.suffix != ".npy":
        foreign_files.require_file(place)
        openers = {
            ".npz": open_npz,
            ".safetensors": _safetensors,
            ".h5": open_hdf5,
            ".hdf5": open_hdf5,
        }
        if place.suffix not in openers:
            allowed = ", ".join(_FORMATS)
            raise StoreError(f"{path}: not one of the formats {allowed}", exit_code=2)
        return openers[place.suffix](place, stack)
    pattern = str(place / "*.npy") if place.is_dir() else str(place)
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not files or any(file.suffix != ".npy" for file in files):
        raise StoreError(
            f"{path}: no arrays there; allowed: one of {', '.join(_FORMATS)}, or a folder or glob "
            "of .npy files",
            exit_code=2,
        )
    limits.check_count(len(files))
    arrays = {file.stem: mapped(file) for file in files}
    return arrays, lambda name, rows: arrays[name][rows]


def _safetensors(path: Path, stack: ExitStack) -> Opened:
    from safetensors import safe_open

    limits.check_header(path)
    file: Any = stack.enter_context(safe_open(path, framework="np"))
    dtypes = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}
    arrays = {}
    limits.check_count(len(file.keys()))
    for name in file.keys():  # noqa: SIM118 (not a mapping)
        part = file.get_slice(name)
        dtype = part.get_dtype()
        arrays[name] = ArrayShape(tuple(part.get_shape()), np.dtype(dtypes.get(dtype, "int8")))
    return arrays, lambda name, rows: file.get_slice(name)[rows]


def layers_of(store: ActivationStore) -> Opened:
    """The layers of an activation store of ours."""
    layers = {layout.layer_name(number): layer for number, layer in store.layers.items()}
    return dict(layers), lambda name, rows: layers[name][rows]
