"""Hidden states that others extracted: arrays in .npy, .npz, .safetensors, HDF5 or Zarr files.

One array (samples, width) a layer, read a slice of samples at a time. Nothing pickled is ever
loaded. Knows no torch and not where the arrays go.
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
from zipfile import ZipFile

import ml_dtypes
import numpy as np

from engramcka.errors import DataError, StoreError
from engramcka.stores import layout
from engramcka.stores.activations import open_activations

FORMATS = (".npy", ".npz", ".safetensors", ".h5", ".hdf5", ".zarr")

_DTYPES = {"float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "float64": "float32"}


Opened = tuple[dict[str, Any], Callable[[str, slice], Any]]
"""Array's name -> something with shape and dtype, and the reader of (array's name, samples)."""


@dataclass(frozen=True)
class _Array:
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True)
class ForeignArrays:
    """The arrays of one model, open for reading."""

    layers: dict[int, str]  # layer number -> its array's name, in order
    shape: tuple[int, int]  # (samples, width), of every one
    dtype: str  # as stored here: float64 becomes float32
    found_dtype: str  # as it is there
    read: Callable[[str, slice], Any]  # (array's name, samples) -> (samples, width)

    def rows(self, samples: slice) -> Iterator[tuple[int, Any]]:
        """(layer number, (samples, width) in `dtype`, bfloat16 as uint16 words) of every layer."""
        for number, name in self.layers.items():
            try:
                block = np.asarray(self.read(name, samples))
            except Exception as error:  # each format's library raises its own kinds
                raise StoreError(
                    f"array {name!r} cannot be read ({layout.first_line(error)})"
                ) from error
            if self.dtype == "bfloat16":
                yield number, np.ascontiguousarray(block).view(np.uint16)
            else:
                yield number, block.astype(self.dtype, copy=False)


@contextmanager
def open_foreign(
    path: str, names: Sequence[str] | None = None, first_layer: int | None = None
) -> Iterator[ForeignArrays]:
    """Open the arrays that a path names.

    Args:
        path: a file, a folder or glob of .npy files, or a Zarr group.
        names: of the arrays, first layer first; None for all, by the number at the end of their
            names.
        first_layer: number of the first array; None for the numbers in the names, or 1 if ``names``
            is given.

    Raises:
        StoreError: nothing there, or it cannot be read.
        DataError: no such array, no number in a name, or shapes and dtypes that do not agree.
    """
    with ExitStack() as stack:
        try:
            shapes, read = _open(path, stack)
        except (StoreError, DataError):
            raise
        except Exception as error:  # each format's library raises its own kinds
            raise StoreError(
                f"{path}: cannot be read ({layout.first_line(error)})", exit_code=2
            ) from error
        layers = _number(path, list(shapes), names, first_layer)
        shape, dtype = _common(path, {name: shapes[name] for name in layers.values()})
        yield ForeignArrays(layers, shape, _DTYPES[dtype], dtype, read)


def read_samples(path: str) -> dict[str, Any]:
    """A sample table from JSON lines: column name -> (samples,) array.

    Raises:
        StoreError: it cannot be read.
        DataError: a line that is no JSON object, or has not the columns of the first one.
    """
    rows: list[Mapping[str, Any]] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StoreError(
            f"{path}: cannot be read ({layout.first_line(error)})", exit_code=2
        ) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise DataError(f"{path}, row {number}: not an object with the first row's columns")
    columns = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    for name in ("document", "start", "end"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; it has: {', '.join(columns) or 'none'}")
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "Uifb":
            raise DataError(f"{path}: column {name!r} is not text or numbers throughout")
    for name in ("start", "end"):
        if columns[name].dtype.kind != "i":
            raise DataError(f"{path}: column {name!r} holds no whole numbers")
    seen = {(row["document"], row["start"], row["end"]) for row in rows}
    if len(seen) < len(rows):
        raise DataError(
            f"{path}: {len(rows) - len(seen)} rows repeat the document, start and end of another"
        )
    return {**columns, "document": columns["document"].astype(str)}


def _open(path: str, stack: ExitStack) -> Opened:
    """Whatever is at a path."""
    place = Path(path).expanduser()
    if any((place / name).is_file() for name in ("zarr.json", ".zgroup")):
        return _zarr(place)
    if place.is_file() and place.suffix != ".npy":
        openers = {
            ".npz": _npz,
            ".safetensors": _safetensors,
            ".h5": _hdf5,
            ".hdf5": _hdf5,
        }
        if place.suffix not in openers:
            allowed = ", ".join(FORMATS)
            raise StoreError(f"{path}: not one of the formats {allowed}", exit_code=2)
        return openers[place.suffix](place, stack)
    pattern = str(place / "*.npy") if place.is_dir() else str(place)
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not files or any(file.suffix != ".npy" for file in files):
        raise StoreError(
            f"{path}: no arrays there; allowed: one of {', '.join(FORMATS)}, or a folder or glob "
            "of .npy files",
            exit_code=2,
        )
    arrays = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in files}
    return arrays, lambda name, rows: arrays[name][rows]


def _npz(path: Path, stack: ExitStack) -> Opened:
    archive = stack.enter_context(ZipFile(path))
    arrays = {
        name.removesuffix(".npy"): _ZippedArray(stack.enter_context(archive.open(name)))
        for name in archive.namelist()
    }
    return dict(arrays), lambda name, rows: arrays[name].read(rows)


class _ZippedArray:
    """An array of an .npz, of which the rows asked for are read and no others kept."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"an array in .npy version {version}")
        self.shape, self._is_fortran, self.dtype = readers[version](stream)
        if self.dtype.hasobject:
            raise ValueError("an array of Python objects, which only pickle could read")
        self._start = stream.tell()

    def read(self, rows: slice) -> Any:
        """(samples, width) of a slice of samples."""
        count, width = self.shape
        start, stop, _ = rows.indices(count)
        row = width * self.dtype.itemsize
        first, size = (0, count * row) if self._is_fortran else (start * row, (stop - start) * row)
        self._stream.seek(self._start + first)
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError("an array that is cut short")
        values = np.frombuffer(data, self.dtype)
        if self._is_fortran:
            return values.reshape((count, width), order="F")[start:stop]
        return values.reshape(-1, width)


def _safetensors(path: Path, stack: ExitStack) -> Opened:
    from safetensors import safe_open

    file: Any = stack.enter_context(safe_open(path, framework="np"))
    dtypes = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}
    arrays = {}
    for name in file.keys():  # noqa: SIM118 (not a mapping)
        part = file.get_slice(name)
        dtype = part.get_dtype()
        arrays[name] = _Array(tuple(part.get_shape()), np.dtype(dtypes.get(dtype, "int8")))
    return arrays, lambda name, rows: file.get_slice(name)[rows]


def _hdf5(path: Path, stack: ExitStack) -> Opened:
    try:
        import h5py
    except ImportError as error:
        raise StoreError(
            f"{path}: HDF5 files need h5py; install it with: pip install 'engramcka[hdf5]'",
            exit_code=2,
        ) from error
    file = stack.enter_context(h5py.File(path, "r"))
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item

    file.visititems(visit)
    return arrays, lambda name, rows: arrays[name][rows]


def _zarr(path: Path) -> Opened:
    import zarr

    group = zarr.open_group(path, mode="r")
    if group.attrs.get(layout.TYPE) == "activations":
        return _own(path)
    arrays: dict[str, Any] = dict(group.arrays())
    shapes = {}
    for name, array in arrays.items():
        is_words = array.dtype == np.uint16 and array.attrs.get("dtype") == "bfloat16"
        dtype = np.dtype(ml_dtypes.bfloat16) if is_words else array.dtype
        shapes[name] = _Array(array.shape, dtype)

    def read(name: str, rows: slice) -> Any:
        return np.asarray(arrays[name][rows]).view(shapes[name].dtype)

    return shapes, read


def _own(path: Path) -> Opened:
    """An activation store of ours, which must be complete: what is missing would read as zeros."""
    store = open_activations(path)
    if store.missing():
        raise StoreError(f"{path}: samples are missing in it; finish its run first", exit_code=2)
    layers = {layout.layer_name(number): layer for number, layer in store.layers.items()}
    return dict(layers), lambda name, rows: layers[name][rows]


def _number(
    path: str, there: list[str], names: Sequence[str] | None, first_layer: int | None
) -> dict[int, str]:
    """Layer number -> array, in order."""
    if not there:
        raise DataError(f"{path}: holds no arrays")
    if names is not None:
        for name in names:
            if name not in there:
                raise DataError(f"{path}: no array {name!r}; it has: {', '.join(there[:12])}")
        return dict(enumerate(names, start=1 if first_layer is None else first_layer))
    numbers: dict[int, str] = {}
    for name in there:
        digits = re.findall(r"\d+", name)
        if not digits:
            raise DataError(f"{path}: array {name!r} has no layer number in its name; set layers")
        if int(digits[-1]) in numbers:
            raise DataError(
                f"{path}: arrays {numbers[int(digits[-1])]!r} and {name!r} have the same number; "
                "set layers"
            )
        numbers[int(digits[-1])] = name
    ordered = dict(sorted(numbers.items()))
    if first_layer is None:
        return ordered
    return dict(enumerate(ordered.values(), start=first_layer))


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
    return (int(rows), int(width)), str(arrays[first].dtype)
