"""The formats that others keep arrays in: whatever is at a path as named arrays, read by slices.

Knows nothing of layers. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import glob
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import ml_dtypes
import numpy as np

from engramcka.errors import StoreError
from engramcka.stores import layout
from engramcka.stores.activations import ActivationStore, open_activations
from engramcka.stores.foreign_arrays import ArrayShape, Opened
from engramcka.stores.foreign_zarr import has_arrays, open_zarr
from engramcka.stores.remote import has_store, is_url, remote_path

FORMATS = (".npy", ".npz", ".safetensors", ".h5", ".hdf5", ".zarr")


def own_store(path: str) -> ActivationStore | None:
    """The activation store of ours that a path or a URL names; None where it names another thing.

    Raises:
        StoreError: it is damaged or not complete: what is missing would read as zeros.
    """
    if is_url(path):
        return open_activations(path) if has_store(remote_path(path)) else None
    place = Path(path).expanduser()
    try:
        node = json.loads((place / "zarr.json").read_bytes())
        if node["attributes"].get(layout.TYPE) != "activations":
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
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
        name.removesuffix(".npy"): ZippedArray(stack.enter_context(archive.open(name)))
        for name in archive.namelist()
    }
    return dict(arrays), lambda name, rows: arrays[name].read(rows)


class ZippedArray:
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
        arrays[name] = ArrayShape(tuple(part.get_shape()), np.dtype(dtypes.get(dtype, "int8")))
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


def layers_of(store: ActivationStore) -> Opened:
    """The layers of an activation store of ours."""
    layers = {layout.layer_name(number): layer for number, layer in store.layers.items()}
    return dict(layers), lambda name, rows: layers[name][rows]
