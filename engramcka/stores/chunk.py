"""An array of ours that is one chunk: its bytes, their checksum verified, without zarr and NumPy.

So are all arrays of results, the rows of `written`, and the columns of a sample table. What decides
how much is read is known from the metadata before anything is read. Knows nothing of what an array
means.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from crc32c import crc32c

from engramcka.errors import StoreError
from engramcka.regular import read_regular
from engramcka.stores import nodes

CRC_BYTES = 4


def read_chunk(folder: Path, most: int, within: Path) -> tuple[tuple[int, ...], str, bytes]:
    """(shape, data type, little-endian content in C order) of an array, its checksum verified.

    Args:
        folder: the array's.
        most: bytes that it may hold.
        within: the folder that it belongs to: no folder below it may be a link.

    Raises:
        StoreError: not there, stored in another way than ours, larger, or its checksum is wrong.
    """
    node = nodes.read_array(folder, within)
    nodes.require(node, (nodes.BYTES, nodes.CRC32C), ("float64", "int64"))
    size = require_one_chunk(node, most)
    if size == 0:
        return node.shape, node.data_type, b""
    path = chunk_file(node)
    content = read_file(path, size + CRC_BYTES, within)
    return node.shape, node.data_type, checked(content, path, size)


def require_one_chunk(node: nodes.ArrayNode, most: int) -> int:
    """Bytes of an array of numbers that is one chunk.

    Raises:
        StoreError: several chunks, or more than ``most`` bytes.
    """
    size = math.prod(node.shape) * nodes.ITEM_BYTES[node.data_type]
    one = tuple(max(1, length) for length in node.shape)
    if node.chunk_shape != one or not node.shape or sys.byteorder != "little":
        raise StoreError(f"{node.folder}: cannot be read (not one chunk)")
    if max(size, *node.shape) > most:
        raise StoreError(f"{node.folder}: cannot be read ({size:,} bytes, more than ours ever are)")
    return size


def chunk_file(node: nodes.ArrayNode) -> Path:
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


def checked(content: bytes, path: Path, size: int | None = None) -> bytes:
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
