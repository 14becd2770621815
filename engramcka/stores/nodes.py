"""The `zarr.json` of our own groups and arrays, and arrays of one chunk, read without zarr.

Zarr's own reader takes far more (format 2, codecs that execute what they decode, shapes without
end), and a store may come from a stranger. So nothing of ours is opened by it: metadata is read
here, bounded, and must have the one form in which engramcka writes it before a byte of data is
read. All arrays of results, the rows of `written` and the columns of a sample table are one chunk
each, followed by its crc32c. Importing zarr or NumPy would take longer than the reading.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from engramcka.errors import StoreError
from engramcka.own_files import read_regular

ZARR_JSON = "zarr.json"
MOST_BYTES = 16 << 20  # of one zarr.json
ITEM_BYTES = {
    **{"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2},
    **{"int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8},
}
STRING = "string"  # of variable length

BYTES = ("bytes", "little")
CRC32C, ZSTD, VLEN_UTF8 = ("crc32c",), ("zstd",), ("vlen-utf8",)
SHARDING = "sharding_indexed"  # with the shape of a part, the codecs of parts, those of the index
Codec = tuple[Any, ...]  # name, and what of its configuration says how it is read

_CHUNK_KEYS = {"name": "default", "configuration": {"separator": "/"}}
_MOST_DIMENSIONS = 8
_MOST_SIZE = 1 << 48  # of one dimension
_GROUP_KEYS = {"attributes", "node_type", "zarr_format", "consolidated_metadata"}
_SHARDING_KEYS = {"chunk_shape", "codecs", "index_codecs", "index_location"}
_ARRAY_KEYS = {
    *("attributes", "node_type", "zarr_format", "shape", "data_type", "chunk_grid"),
    *("chunk_key_encoding", "fill_value", "codecs", "dimension_names", "storage_transformers"),
}
CRC_BYTES = 4


@dataclass(frozen=True)
class ArrayNode:
    """What the metadata of one of our arrays says; every part of it is as we write it."""

    folder: Path
    shape: tuple[int, ...]
    data_type: str  # a key of `ITEM_BYTES`, or `STRING`
    chunk_shape: tuple[int, ...]
    codecs: tuple[Codec, ...]
    attributes: Mapping[str, Any]


def read_group(folder: Path, within: Path) -> dict[str, Any]:
    """Attributes of a group of ours.

    Args:
        folder: the group's.
        within: the folder that it belongs to: no folder below it may be a link.

    Raises:
        StoreError: not there, no regular file, too large, or not in our form.
    """
    node = _read(folder, within, "group", _GROUP_KEYS)
    if node.get("consolidated_metadata") is not None:
        raise _broken(folder, "metadata of others are listed in it")
    return dict(node["attributes"])


def read_array(folder: Path, within: Path) -> ArrayNode:
    """What the metadata of an array of ours says; raises as `read_group`."""
    node = _read(folder, within, "array", _ARRAY_KEYS)
    try:
        shape, chunk_shape = _sizes(node["shape"]), _sizes(_grid(node["chunk_grid"]))
        codecs = tuple(_codec(codec) for codec in node["codecs"])
        data_type = node["data_type"]
        ours = (
            len(shape) == len(chunk_shape) <= _MOST_DIMENSIONS
            and min(chunk_shape, default=1) > 0
            and isinstance(data_type, str)
            and (data_type in ITEM_BYTES or data_type == STRING)
            and node["chunk_key_encoding"] == _CHUNK_KEYS
            and not node.get("storage_transformers")
            and not node["fill_value"]  # zero, false or nothing
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _broken(folder, _unknown(error)) from error
    if not ours:
        raise _broken(folder, "an array that is not stored as engramcka stores them")
    return ArrayNode(folder, shape, data_type, chunk_shape, codecs, node["attributes"])


def require(node: ArrayNode, codecs: tuple[Codec, ...], data_types: tuple[str, ...] = ()) -> None:
    """Refuse an array with other codecs, or with none of these data types; raises StoreError."""
    if node.codecs != codecs:
        names = ", ".join(str(codec[0]) for codec in node.codecs)[:100]
        raise _broken(node.folder, f"stored with {names or 'no codec'}")
    if data_types and node.data_type not in data_types:
        raise _broken(node.folder, f"holds {node.data_type}, expected {' or '.join(data_types)}")


def _read(folder: Path, within: Path, kind: str, known: set[str]) -> dict[str, Any]:
    path = folder / ZARR_JSON
    try:
        node = json.loads(read_regular(path, MOST_BYTES, within))
        keys = set(node)
        fits = node["node_type"] == kind and node["zarr_format"] == 3
        attributes = node.get("attributes", {})
    except FileNotFoundError as error:
        raise StoreError(f"{path}: cannot be read (the file is gone)") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _broken(folder, f"no metadata of a Zarr {kind}") from error
    if not fits or not isinstance(attributes, dict):
        raise _broken(folder, f"no metadata of a Zarr {kind} in format 3")
    if keys - known:
        raise _broken(folder, f"says {sorted(keys - known)[0][:40]!r}, which ours never do")
    return {**node, "attributes": attributes}


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(size) is not int for size in value):
        raise ValueError("sizes that are no numbers")
    if any(not 0 <= size <= _MOST_SIZE for size in value):
        raise ValueError("a size that no array of ours has")
    return tuple(value)


def _grid(value: Mapping[str, Any]) -> Any:
    if value["name"] != "regular" or set(value["configuration"]) != {"chunk_shape"}:
        raise ValueError("chunks that are not all alike")
    return value["configuration"]["chunk_shape"]


def _codec(value: Mapping[str, Any]) -> Codec:
    """A codec as its name and what decides how it is read.

    Raises:
        ValueError: one that we do not use, or use in another way.
    """
    name, said = value["name"], value.get("configuration") or {}
    if not isinstance(name, str):
        raise ValueError("a codec without a name")
    if name == "bytes" and (said == {} or said == {"endian": "little"}):  # one-byte types have none
        return BYTES
    if name in ("crc32c", "vlen-utf8") and not said:
        return (name,)
    if name == "zstd" and set(said) <= {"level", "checksum"}:
        return ZSTD
    if name == SHARDING and set(said) == _SHARDING_KEYS and said["index_location"] == "end":
        inside, index = (tuple(map(_codec, said[key])) for key in ("codecs", "index_codecs"))
        return (name, _sizes(said["chunk_shape"]), inside, index)
    raise ValueError(f"stored with {name[:40]!r}, or in a way that engramcka never does")


def _unknown(error: Exception) -> str:
    reason = isinstance(error, ValueError) and str(error)
    return str(reason) if reason else "an array whose metadata are not whole"


def _broken(folder: Path, what: str) -> StoreError:
    return StoreError(f"{folder / ZARR_JSON}: cannot be read ({what})")


def read_chunk(folder: Path, most: int, within: Path) -> tuple[tuple[int, ...], str, bytes]:
    """(shape, data type, little-endian content in C order) of an array, its checksum verified.

    Args:
        folder: the array's.
        most: bytes that it may hold.
        within: the folder that it belongs to: no folder below it may be a link.

    Raises:
        StoreError: not there, stored in another way than ours, larger, or its checksum is wrong.
    """
    node = read_array(folder, within)
    require(node, (BYTES, CRC32C), ("float64", "int64"))
    size = require_one_chunk(node, most)
    if size == 0:
        return node.shape, node.data_type, b""
    path = chunk_file(node)
    content = read_file(path, size + CRC_BYTES, within)
    return node.shape, node.data_type, verified(content, path, size)


def require_one_chunk(node: ArrayNode, most: int) -> int:
    """Bytes of an array of numbers that is one chunk.

    Raises:
        StoreError: several chunks, or more than ``most`` bytes.
    """
    size = math.prod(node.shape) * ITEM_BYTES[node.data_type]
    one = tuple(max(1, length) for length in node.shape)
    if node.chunk_shape != one or not node.shape or sys.byteorder != "little":
        raise StoreError(f"{node.folder}: cannot be read (not one chunk)")
    if max(size, *node.shape) > most:
        raise StoreError(f"{node.folder}: cannot be read ({size:,} bytes, more than ours ever are)")
    return size


def chunk_file(node: ArrayNode) -> Path:
    """The file of the first chunk of an array."""
    return node.folder.joinpath("c", *["0"] * len(node.shape))


def read_file(path: Path, most: int, within: Path) -> bytes:
    """The content of a chunk's file; raises StoreError that names it."""
    try:
        return read_regular(path, most, within)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: cannot be read (the file is gone)") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error})") from error


def verified(content: bytes, path: Path, size: int | None = None) -> bytes:
    """What stands before a trailing crc32c, if that is its own, and of ``size`` bytes.

    Raises:
        StoreError: it is not what was written.
    """
    body, checksum = content[:-CRC_BYTES], int.from_bytes(content[-CRC_BYTES:], "little")
    if len(content) < CRC_BYTES or (size is not None and len(body) != size):
        raise StoreError(f"{path}: cannot be read ({len(content):,} bytes)")
    if crc32c(body) != checksum:
        raise StoreError(f"{path}: cannot be read (not what was written)")
    return body
