"""Zarr arrays of any writer, format 2 or 3, on a disk or behind a URL.

Metadata is read here and each array opened by itself, so that what Zarr's own reader does not know
(bfloat16 as TensorStore and JAX write it) is read as the 16-bit words that it is, and what is wrong
with one array is told in a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from engramcka.errors import StoreError
from engramcka.stores import layout
from engramcka.stores.foreign_arrays import ArrayShape, Opened
from engramcka.stores.remote import RemotePath, is_url, remote_path

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_ROOT = ("zarr.json", ".zarray", ".zgroup", ".zmetadata")
_ARRAY = ("zarr.json", ".zarray")
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError, KeyError)  # of fsspec

Metadata = Mapping[str, Any]  # of an array, as its document has it


def open_zarr(path: str) -> Opened:
    """The arrays of a group, or of a folder of arrays without one, or the array that is there.

    Raises:
        StoreError: nothing there, or an array cannot be read; names the array.
    """
    from zarr.storage import FsspecStore, LocalStore, StorePath

    place = remote_path(path) if is_url(path) else Path(path).expanduser()
    try:
        found = _arrays(place)
    except StoreError:
        raise
    except Exception as error:  # each protocol's package raises its own kinds
        raise _no_zarr(path, layout.first_line(error)) from error
    if isinstance(place, Path):
        store: Any = LocalStore(place, read_only=True)
    else:
        store = FsspecStore.from_url(place.url, read_only=True)
    shapes, arrays = {}, {}
    for name, (inside, metadata) in found.items():
        try:
            shapes[name] = _shape(metadata)
            if shapes[name].dtype.kind != "f" and shapes[name].dtype != _BFLOAT16:
                continue  # no hidden states; refused by whoever asks for it
            arrays[name] = _open(StorePath(store, inside), metadata)
            _require_chunks(place, inside, name, arrays[name])
        except StoreError:
            raise
        except Exception as error:  # of Zarr's own, and of whatever the document holds
            raise StoreError(
                f"{path}: array {name!r} cannot be read ({layout.first_line(error)})", exit_code=2
            ) from error

    def read(name: str, rows: slice) -> Any:
        words = np.asarray(arrays[name][rows])
        dtype = shapes[name].dtype
        return words.view(dtype) if dtype == _BFLOAT16 else words.astype(dtype, copy=False)

    return dict(shapes), read


def has_arrays(folder: Path) -> bool:
    """Whether a local folder is a Zarr group or array, or holds arrays without a group's document,
    as TensorStore leaves them."""
    if any((folder / name).is_file() for name in _ROOT):
        return True
    return any(file.is_file() for name in _ARRAY for file in folder.glob(f"*/{name}"))


def _no_zarr(path: str, reason: str) -> StoreError:
    what = "no Zarr group there; of a URL only Zarr is read, copy other files here first"
    told = what if is_url(path) else "cannot be read"
    return StoreError(f"{path}: {told} ({reason})", exit_code=2)


def _arrays(place: Path | RemotePath) -> dict[str, tuple[str, Metadata]]:
    """Name -> path inside and metadata of every array at the top."""
    root = {name: _parsed(place, name, text) for name, text in _read(place, _ROOT).items()}
    group = root.get("zarr.json", {})
    if group.get("attributes", {}).get(layout.TYPE) == "activations":
        raise StoreError(
            f"{place}: an activation store without its manifest; finish its run, "
            "then copy it whole",
            exit_code=2,
        )
    for document in (group, root.get(".zarray", {})):
        if _is_array(document):
            return {str(place).rstrip("/").rsplit("/", 1)[-1]: ("", document)}
    consolidated = group.get("consolidated_metadata") or root.get(".zmetadata") or {}
    listed: Metadata = consolidated.get("metadata", {})
    if not listed:
        names = [f"{child}/{name}" for child in _children(place) for name in _ARRAY]
        listed = {name: _parsed(place, name, text) for name, text in _read(place, names).items()}
    found = {}
    for name, document in sorted(listed.items()):
        inside = name.removesuffix("/zarr.json").removesuffix("/.zarray")
        if "/" not in inside and _is_array(document):
            found[inside] = (inside, document)
    if not (found or root):
        raise _no_zarr(str(place), "no zarr.json, .zgroup or .zarray")
    return found


def _is_array(document: Metadata) -> bool:
    return document.get("node_type") == "array" or "chunks" in document


def _parsed(place: Path | RemotePath, name: str, text: bytes) -> Metadata:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise StoreError(
            f"{place / name}: cannot be read ({layout.first_line(error)})", exit_code=2
        ) from error
    if not isinstance(document, dict):
        raise StoreError(f"{place / name}: cannot be read (no JSON object)", exit_code=2)
    return document


def _children(place: Path | RemotePath) -> list[str]:
    if isinstance(place, Path):
        return [child.name for child in place.iterdir() if child.is_dir()]
    paths = place.files.ls(place.path, detail=False)
    return [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]


def _read(place: Path | RemotePath, names: Sequence[str]) -> dict[str, bytes]:
    """The files of these names that are there, all requests at once."""
    if isinstance(place, Path):
        return {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
    if not names:
        return {}
    paths = {(place / name).path: name for name in names}
    found = place.files.cat(list(paths), on_error="return")
    for value in found.values():
        if isinstance(value, Exception) and not isinstance(value, _ABSENT):
            raise value
    return {paths[path]: value for path, value in found.items() if not isinstance(value, Exception)}


def _shape(metadata: Metadata) -> ArrayShape:
    """Shape and dtype, in the machine's byte order; void where it is no dtype of NumPy's."""
    if "data_type" in metadata:
        named = metadata["data_type"]
        named = named.get("name", "") if isinstance(named, dict) else named
    else:
        named = metadata["dtype"]
    attributes = metadata.get("attributes", {})
    if named == "bfloat16" or (named == "uint16" and attributes.get("dtype") == "bfloat16"):
        dtype = _BFLOAT16
    else:
        dtype = _dtype(named)
    return ArrayShape(tuple(map(int, metadata["shape"])), dtype)


class _NoDtype(str):
    """The name of a data type that NumPy does not have."""

    kind = "V"


def _dtype(named: Any) -> Any:
    try:
        return np.dtype(named).newbyteorder("=") if isinstance(named, str) else _NoDtype(named)
    except TypeError:
        return _NoDtype(named)


def _open(path: Any, metadata: Metadata) -> Any:
    """A Zarr array of these metadata; bfloat16 as the words that it is kept in."""
    import zarr

    for codec in (metadata.get("compressor"), *(metadata.get("filters") or ())):
        if codec and codec.get("id") == "pickle":
            raise ValueError("a codec that executes what it reads, pickle")
    changed = dict(metadata)
    for key, words in (("data_type", "uint16"), ("dtype", "<u2")):
        if metadata.get(key) == "bfloat16":
            changed |= {key: words, "fill_value": _word(metadata["fill_value"])}
    return zarr.Array.from_dict(path, changed)


def _require_chunks(place: Path | RemotePath, inside: str, name: str, array: Any) -> None:
    """Refuse an array of which a chunk (a shard, if there are any) is not there and reads as zero.

    Counted here, since Zarr's own count takes shards at the edge for full ones.
    """
    sides = zip(array.shape, array.shards or array.chunks, strict=True)
    grid = [-(-length // side) for length, side in sides]
    wanted = {array.metadata.encode_chunk_key(corner) for corner in np.ndindex(*grid)}
    folder = place / inside if inside else place
    if isinstance(folder, Path):
        paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    else:
        root = folder.path.rstrip("/") + "/"
        paths = [path.removeprefix(root) for path in folder.files.find(folder.path)]
    gone = len(wanted.difference(paths))
    if gone:
        raise StoreError(
            f"{place}: array {name!r} cannot be read ({gone} of {len(wanted)} chunks are gone)",
            exit_code=2,
        )


def _word(fill: Any) -> int | None:
    """A fill value of bfloat16 (a number, its name or its bits in hexadecimal) as a word."""
    if fill is None:
        return None
    if isinstance(fill, str) and fill.startswith("0x"):
        return int(fill, 16)
    return int(np.array(float(fill), _BFLOAT16).view(np.uint16))
