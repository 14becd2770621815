"""The formats that others keep arrays in: whatever is at a path as named arrays, read by slices.

Knows nothing of layers. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import glob
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from engramcka import others
from engramcka.errors import StoreError
from engramcka.stores import foreign_bounds as bounds
from engramcka.stores import layout, nodes
from engramcka.stores.activations import ActivationStore
from engramcka.stores.foreign_arrays import ArrayShape, Opened
from engramcka.stores.foreign_hdf5 import open_hdf5
from engramcka.stores.foreign_numpy import mapped, open_npz
from engramcka.stores.foreign_zarr import has_arrays, open_zarr
from engramcka.stores.open import open_activations
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
        node = json.loads(others.read_file(place / "zarr.json", nodes.MOST_BYTES))
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
        others.require_file(place)
        openers = {
            ".npz": open_npz,
            ".safetensors": _safetensors,
            ".h5": open_hdf5,
            ".hdf5": open_hdf5,
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
    bounds.check_count(len(files))
    arrays = {file.stem: mapped(file) for file in files}
    return arrays, lambda name, rows: arrays[name][rows]


def _safetensors(path: Path, stack: ExitStack) -> Opened:
    from safetensors import safe_open

    bounds.check_header(path)
    file: Any = stack.enter_context(safe_open(path, framework="np"))
    dtypes = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32, "F64": np.float64}
    arrays = {}
    bounds.check_count(len(file.keys()))
    for name in file.keys():  # noqa: SIM118 (not a mapping)
        part = file.get_slice(name)
        dtype = part.get_dtype()
        arrays[name] = ArrayShape(tuple(part.get_shape()), np.dtype(dtypes.get(dtype, "int8")))
    return arrays, lambda name, rows: file.get_slice(name)[rows]


def layers_of(store: ActivationStore) -> Opened:
    """The layers of an activation store of ours."""
    layers = {layout.layer_name(number): layer for number, layer in store.layers.items()}
    return dict(layers), lambda name, rows: layers[name][rows]
