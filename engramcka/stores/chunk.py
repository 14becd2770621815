"""One array of a result as bytes, read without zarr and NumPy, whose import takes longer.

Reads only what `engramcka.stores.results` writes: one uncompressed chunk with its checksum. Knows
nothing of what an array means; whoever meets an error here asks zarr, which says what is wrong.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ITEM_BYTES = {"float64": 8, "int64": 8}
_CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]
_KEYS = {"name": "default", "configuration": {"separator": "/"}}


def metadata(folder: Path) -> dict[str, Any]:
    """The zarr.json of a group or an array.

    Raises:
        ValueError, OSError: it is not there, or no JSON.
    """
    found: dict[str, Any] = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    return found


def read_chunk(folder: Path, max_bytes: int) -> tuple[tuple[int, ...], str, bytes]:
    """(shape, data type, little-endian content in C order) of an array, its checksum verified.

    Raises:
        ValueError: stored in another way, larger than ``max_bytes``, or the checksum is wrong.
        OSError, LookupError, TypeError: it is not there, or its metadata are not whole.
    """
    import google_crc32c

    meta = metadata(folder)
    shape = tuple(meta["shape"])
    grid = [max(1, size) for size in shape]
    size = math.prod(shape) * ITEM_BYTES[meta["data_type"]]
    plain = (
        meta["zarr_format"] == 3
        and meta["node_type"] == "array"
        and meta["codecs"] == _CODECS
        and meta["chunk_grid"]["configuration"]["chunk_shape"] == grid
        and meta["chunk_key_encoding"] == _KEYS
        and sys.byteorder == "little"
    )
    if not plain or not shape or min(shape) < 0 or size > max_bytes:
        raise ValueError(f"{folder}: not one plain chunk of at most {max_bytes} bytes")
    if size == 0:
        return shape, meta["data_type"], b""
    content = folder.joinpath("c", *["0"] * len(shape)).read_bytes()
    body, checksum = content[:-4], int.from_bytes(content[-4:], "little")
    if len(body) != size or google_crc32c.value(body) != checksum:
        raise ValueError(f"{folder}: wrong length or checksum")
    return shape, meta["data_type"], body
