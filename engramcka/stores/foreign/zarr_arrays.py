"""Zarr arrays of any writer, format 2 or 3, on a disk or behind a URL.

Metadata is read here and each array opened by itself, so that what Zarr's own reader does not know
(bfloat16 as TensorStore and JAX write it) is read as the 16-bit words that it is, and what is wrong
with one array is a one-line error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from engramcka import foreign_files
from engramcka.errors import StoreError
from engramcka.plain_text import first_line
from engramcka.stores import layout, nodes
from engramcka.stores.foreign import limits
from engramcka.stores.foreign.limits import ArrayShape, Opened
from engramcka.stores.remote import RemotePath, is_url, remote_path

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_ROOT = (nodes.ZARR_JSON, ".zarray", ".zgroup", ".zmetadata")
_ARRAY = (nodes.ZARR_JSON, ".zarray")
_INT64 = 1 << 63
_LONGEST_NAME = 32  # of a data type
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
        raise _no_zarr(path, first_line(error)) from error
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
            arrays[name], most = _open(StorePath(store, inside), metadata, shapes[name])
            _require_chunks(place, inside, name, arrays[name], most)
        except StoreError:
            raise
        except Exception as error:  # of Zarr's own, and of whatever the document holds
            raise StoreError(
                f"{path}: array {name!r} cannot be read ({first_line(error)})", exit_code=2
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
    problem = what if is_url(path) else "cannot be read"
    return StoreError(f"{path}: {problem} ({reason})", exit_code=2)


def _arrays(place: Path | RemotePath) -> dict[str, tuple[str, Metadata]]:
    """Name -> path inside and metadata of every array at the top."""
    root = {name: _parsed(place, name, text) for name, text in _read(place, _ROOT).items()}
    group = root.get(nodes.ZARR_JSON, {})
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
        inside = name.removesuffix(f"/{nodes.ZARR_JSON}").removesuffix("/.zarray")
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
            f"{place / name}: cannot be read ({first_line(error)})", exit_code=2
        ) from error
    if not isinstance(document, dict):
        raise StoreError(f"{place / name}: cannot be read (no JSON object)", exit_code=2)
    return document


def _children(place: Path | RemotePath) -> list[str]:
    if isinstance(place, Path):
        found = [child.name for child in place.iterdir() if child.is_dir()]
    else:
        paths = place.files.ls(place.path, detail=False)
        found = [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]
    limits.check_count(len(found))
    return found


def _read(place: Path | RemotePath, names: Sequence[str]) -> dict[str, bytes]:
    """The files of these names that are there, all requests at once."""
    most = nodes.MOST_BYTES
    if isinstance(place, Path):
        there = [name for name in names if (place / name).exists()]
        return {name: foreign_files.read_file(place / name, most) for name in there}
    if not names:
        return {}
    paths, count = [(place / name).path for name in names], len(names)
    values = place.files.cat_ranges(paths, [0] * count, [most + 1] * count, on_error="return")
    found = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, _ABSENT):
            continue
        if isinstance(value, Exception):
            raise value
        if len(value) > most:
            raise StoreError(f"{place / name}: larger than {most:,} bytes", exit_code=2)
        found[name] = value
    return found


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
    shape = metadata["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < _INT64 for n in shape):
        raise ValueError(f"shape {str(shape)[:40]}")
    return ArrayShape(tuple(shape), dtype)


class _NoDtype(str):
    """The name of a data type that NumPy does not have."""

    kind = "V"


def _dtype(named: Any) -> Any:
    if not isinstance(named, str) or len(named) > _LONGEST_NAME:
        return _NoDtype(str(named)[:_LONGEST_NAME])
    try:
        return np.dtype(named).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):
        return _NoDtype(named)


def _open(path: Any, metadata: Metadata, shape: ArrayShape) -> tuple[Any, int]:
    """A Zarr array of these metadata, and the most bytes a file of it can have; bfloat16 as the
    words that it is kept in."""
    import zarr

    from engramcka.stores.foreign.zarr_codecs import with_bounds

    changed, most = with_bounds(metadata, shape.dtype.itemsize)
    for key, words in (("data_type", "uint16"), ("dtype", "<u2")):
        if metadata.get(key) == "bfloat16":
            changed |= {key: words, "fill_value": _word(metadata["fill_value"])}
    return zarr.Array.from_dict(path, changed), most


def _require_chunks(
    place: Path | RemotePath, inside: str, name: str, array: Any, most: int
) -> None:
    """Refuse an array of which a chunk (a shard, if there are any) is not there and reads as zero,
    or has more than ``most`` bytes.

    Counted here, since Zarr's own count takes shards at the edge for full ones.
    """
    sides = zip(array.shape, array.shards or array.chunks, strict=True)
    grid = [-(-length // side) for length, side in sides]
    there, key = 0, array.metadata.encode_chunk_key
    for path, size in _files(place / inside if inside else place):
        corner = tuple(map(int, re.findall(r"\d{1,18}", path)))
        if len(corner) != len(grid) or not all(map(int.__lt__, corner, grid)):
            continue
        if path == key(corner):
            there += 1
            if size > most:
                raise ValueError(f"{path} has {size:,} bytes, more than a chunk can hold")
    wanted = math.prod(grid)
    if there < wanted:
        gone = f"{wanted - there} of {wanted} chunks are gone"
        raise StoreError(f"{place}: array {name!r} cannot be read ({gone})", exit_code=2)


def _files(folder: Path | RemotePath) -> Iterator[tuple[str, int]]:
    """Path from the folder and bytes of every file."""
    if isinstance(folder, Path):
        for path, size in foreign_files.files_of(folder):
            yield path.relative_to(folder).as_posix(), size
        return
    root = folder.path.rstrip("/") + "/"
    for name, info in folder.files.find(folder.path, detail=True).items():
        yield name.removeprefix(root), int(info.get("size") or 0)


def _word(fill: Any) -> int | None:
    """A fill value of bfloat16 (a number, its name or its bits in hexadecimal) as a word."""
    if fill is None:
        return None
    if isinstance(fill, str) and fill.startswith("0x"):
        return int(fill, 16)
    return int(np.array(float(fill), _BFLOAT16).view(np.uint16))
